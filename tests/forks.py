"""Work in a forked child, and children that are killed before their n-th operation on files."""

import os
import signal
import sys
import traceback

OPERATIONS = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate"}


def in_child(work):
    """Run `work()` in a forked child; its process number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def status(child):
    """How a child ended: its exit code, or minus the signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_before(work, n, root):
    """Run `work()` in a child that is killed before its n-th operation (from 0) on files under `root`; whether it was
    killed, not ended."""

    def bounded():
        left = [n]

        def hook(event, args):
            if event in OPERATIONS and str(args[0]).startswith(str(root)):
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left[0] -= 1

        sys.addaudithook(hook)
        work()

    ended = status(in_child(bounded))
    assert ended in (0, -signal.SIGKILL)
    return ended != 0
