"""Locks on file systems without them."""

import errno
import os

import pytest

from wa import locks


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, 524])
def test_a_file_system_without_locks(tmp_path, monkeypatch, capsys, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    with locks.lock(tmp_path / "lock", wait=False):
        assert f"{tmp_path / 'lock'}: its file system has no locks" in capsys.readouterr().out
    assert not locks.is_locked(tmp_path / "lock")
