"""Locks on file systems without them, and in folders that cannot be written."""

import errno
import os
import threading

import pytest

from wa import locks
from wa.errors import UserError


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locks.lock(tmp_path / "lock", wait=False):
        assert f"{tmp_path / 'lock'}: its file system has no locks" in capsys.readouterr().out
    assert not locks.is_locked(tmp_path / "lock")
    assert not locks.is_free(tmp_path / "lock")  # nobody knows


def test_a_lock_is_free_if_nobody_has_it(tmp_path):
    assert not locks.is_free(tmp_path / "lock")  # it was never taken, so nobody knows
    with locks.lock(tmp_path / "lock", wait=False):
        assert not locks.is_free(tmp_path / "lock")
    assert locks.is_free(tmp_path / "lock")


def test_a_look_at_a_lock_does_not_refuse_it_to_others(tmp_path):
    """`wa status` looks with a shared lock, which it holds for a moment."""
    looking = open(tmp_path / "lock", "a+", encoding="utf-8")  # noqa: SIM115 (closed by the timer)
    locks.fcntl.flock(looking, locks.fcntl.LOCK_SH)
    timer = threading.Timer(0.3, looking.close)
    timer.start()
    locks.lock(tmp_path / "lock", wait=False).close()
    timer.join()


def test_only_a_lock_of_another_process_is_called_one(tmp_path):
    with (
        locks.lock(tmp_path / "lock", wait=False),
        pytest.raises(locks.Locked, match=f"is locked by process {os.getpid()}"),
    ):
        locks.lock(tmp_path / "lock", wait=False)
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder cannot be written") as found:
        locks.lock(tmp_path / "folder", wait=False)
    assert not isinstance(found.value, locks.Locked)
