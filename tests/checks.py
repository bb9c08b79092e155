"""Counts what the tests in Python check, as check.h does for those in C."""
import sys

passed = failed = skipped = 0


def check(condition, what):
    global passed, failed
    passed, failed = passed + bool(condition), failed + (not condition)
    if not condition:
        print("FAILED", what)


def skip(count=1):
    global skipped
    skipped += count


def finish(name):
    """The line that run.sh reads, and the end."""
    print(f"{name}: {passed} passed, {failed} failed, {skipped} skipped")
    sys.exit(failed > 0)
