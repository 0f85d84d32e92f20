"""A Slurm cluster on this machine, with two emulated nodes.

    python tests/slurm/cluster.py up          (as root, with Debian's slurm-wlm and munge)
    python tests/slurm/cluster.py down

Each node has the machine's CPUs and two GPUs, which are devices like /dev/null. The cluster needs
no systemd and no database. It refuses a machine that has a Slurm of its own.
"""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

NODES, GPUS_PER_NODE = ("wa1", "wa2"), 2
STATE = Path("/tmp/wa-slurm")
ETC, MUNGE = Path("/etc/slurm"), Path("/run/munge")
MARK = "# Made by tests/slurm/cluster.py\n"
DEVICES = [Path(f"/dev/wa-gpu{i}") for i in range(GPUS_PER_NODE)]

# It must lie in /etc, because the steps of a job forget SLURM_CONF. It has no control groups, and
# no accounting, which would need a database.
CONFIG = f"""{MARK}ClusterName=wa
SlurmctldHost={{host}}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=6817
AuthType=auth/munge
StateSaveLocation={STATE}/ctld
SlurmdSpoolDir={STATE}/%n
SlurmctldPidFile={STATE}/slurmctld.pid
SlurmdPidFile={STATE}/%n.pid
SlurmctldLogFile={STATE}/slurmctld.log
SlurmdLogFile={STATE}/%n.log
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
MinJobAge=600
KillWait=2
GresTypes=gpu
"""


def config() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20 * 3 // 4
    nodes = [
        f"NodeName={node} NodeHostname={{host}} NodeAddr=127.0.0.1 Port={17001 + i}"
        f" CPUs={os.cpu_count()} RealMemory={memory} Gres=gpu:{GPUS_PER_NODE} State=UNKNOWN\n"
        for i, node in enumerate(NODES)
    ]
    partition = (
        f"PartitionName=wa Nodes={','.join(NODES)}"
        " Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO\n"
    )
    return (CONFIG + "".join(nodes) + partition).format(host=socket.gethostname().split(".")[0])


def daemons() -> list[int]:
    """The processes that `up` started and that still run."""
    pids = []
    for file in [*(STATE / f"{name}.pid" for name in ("slurmctld", *NODES)), MUNGE / "wa.pid"]:
        with contextlib.suppress(OSError, ValueError):
            os.kill(pid := int(file.read_text()), 0)
            pids.append(pid)
    return pids


def up() -> None:
    if os.getuid() or not all(map(shutil.which, ("slurmctld", "slurmd", "munged"))):
        sys.exit("error: this needs root, and `apt-get install slurm-wlm munge`")
    if (ETC / "slurm.conf").exists() and not (ETC / "slurm.conf").read_text().startswith(MARK):
        sys.exit(f"error: {ETC}/slurm.conf is of another Slurm, which this would break")
    down()
    (STATE / "ctld").mkdir(parents=True)
    (ETC / "slurm.conf").write_text(config())
    files = f"{DEVICES[0].parent}/wa-gpu[0-{GPUS_PER_NODE - 1}]"
    # Without CUDA_VISIBLE_DEVICES. Trainings insist on the GPUs that it names.
    gres = [f"NodeName={node} Name=gpu File={files} Flags=no_gpu_env\n" for node in NODES]
    (ETC / "gres.conf").write_text(MARK + "".join(gres))
    for device in DEVICES:  # a GPU must be a character device, such as a copy of /dev/null
        os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    if not (MUNGE / "munge.socket.2").exists():
        MUNGE.mkdir(exist_ok=True)
        MUNGE.chmod(0o755)  # all users must reach the socket
        user = pwd.getpwnam("munge")
        os.chown(MUNGE, user.pw_uid, user.pw_gid)
        subprocess.run(
            ["munged", f"--pid-file={MUNGE}/wa.pid"],
            check=True,
            user="munge",
            group="munge",
            extra_groups=[],
        )
    subprocess.run(["slurmctld"], check=True)
    for node in NODES:
        (STATE / node).mkdir()
        subprocess.run(["slurmd", "-N", node], check=True)
    for _ in range(100):
        states = subprocess.run(
            ["sinfo", "-hN", "-o", "%T"], capture_output=True, text=True
        ).stdout.split()
        if states == ["idle"] * len(NODES):
            return
        time.sleep(0.3)
    sys.exit(f"error: the nodes do not come up ({states}), see {STATE}")


def down() -> None:
    if not (STATE / "ctld").exists():
        return
    subprocess.run(["scancel", "--user=root"], capture_output=True, timeout=60)
    for pid in daemons():
        os.kill(pid, signal.SIGTERM)
    for _ in range(100):
        if daemons():
            time.sleep(0.1)
    for file in (*DEVICES, ETC / "slurm.conf", ETC / "gres.conf"):
        file.unlink(missing_ok=True)
    shutil.rmtree(STATE)


if __name__ == "__main__":
    {"up": up, "down": down}[sys.argv[1]]()
