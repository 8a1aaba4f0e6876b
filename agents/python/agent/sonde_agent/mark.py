"""Says how far the agent came, so that it is seen from outside: the name of an anonymous file that
is mapped shows in /proc/<pid>/maps, whatever the process may not write or reach."""

import os
import sys

# Marks live as long as the process does.
_kept = []
# What a name may hold, less what the kernel puts around it.
_LONGEST = 200


def leave(state, *words):
    """Leaves a mark and gives it; where the kernel has none of these files, nothing."""
    text = " ".join(["sonde-agent/1", state, *words])
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    try:
        import mmap

        file = os.memfd_create(text.encode("ascii", "replace")[:_LONGEST].decode())
        try:
            os.ftruncate(file, mmap.PAGESIZE)
            more = {"trackfd": False} if sys.version_info >= (3, 13) else {}
            left = mmap.mmap(file, mmap.PAGESIZE, prot=mmap.PROT_READ, **more)
        finally:
            os.close(file)
        _kept.append(left)
        return left
    except (ImportError, AttributeError, OSError, ValueError):
        return None


def take(left):
    """Takes a mark away: it does not hold any more, or not of this process."""
    if left is not None:
        _kept.remove(left)
        left.close()
