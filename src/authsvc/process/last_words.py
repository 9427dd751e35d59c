"""What the C library, the C++ runtime and the interpreter say when they end a process: fixed phrases.

They have the marks at which values begin in other lines, and hold none. What follows a phrase is not kept.
"""

import re

# malloc.c of the GNU C library, after the name of the function.
_HEAP = {
    "free": (
        "invalid pointer",
        "invalid size",
        "invalid next size (fast)",
        "invalid next size (normal)",
        "double free detected in tcache 2",
        "too many chunks detected in tcache",
        "unaligned chunk detected in tcache 2",
        "corrupted unsorted chunks",
    ),
    "malloc": (
        "memory corruption",
        "memory corruption (fast)",
        "smallbin double linked list corrupted",
        "invalid size (unsorted)",
        "invalid next size (unsorted)",
        "mismatching next->prev_size (unsorted)",
        "unsorted double linked list corrupted",
        "invalid next->prev_inuse (unsorted)",
        "corrupted unsorted chunks",
        "corrupted unsorted chunks 2",
        "corrupted unsorted chunks 3",
        "largebin double linked list corrupted (nextsize)",
        "largebin double linked list corrupted (bk)",
        "unaligned tcache chunk detected",
        "unaligned fastbin chunk detected",
        "unaligned fastbin chunk detected 2",
        "unaligned fastbin chunk detected 3",
        "corrupted top size",
    ),
    "malloc_consolidate": ("invalid chunk size", "unaligned fastbin chunk detected"),
    "realloc": ("invalid pointer", "invalid old size", "invalid next size"),
    "munmap_chunk": ("invalid pointer",),
    "mremap_chunk": ("invalid pointer",),
    "tcache_thread_shutdown": ("unaligned tcache chunk detected",),
}
_OTHERS = (
    "double free or corruption (fasttop)",
    "double free or corruption (top)",
    "double free or corruption (out)",
    "double free or corruption (!prev)",
    "corrupted double-linked list (not small)",
    "*** stack smashing detected ***: terminated",
    "*** buffer overflow detected ***: terminated",
    "terminate called after throwing an instance of 'std::bad_alloc'",
    "terminate called after throwing an instance of 'std::length_error'",
    "terminate called after throwing an instance of 'std::logic_error'",
    "terminate called after throwing an instance of 'std::out_of_range'",
    "terminate called after throwing an instance of 'std::runtime_error'",
    "terminate called after throwing an instance of 'std::system_error'",
)
# faulthandler, and Py_FatalError of CPython.
_INTERPRETER = (
    "Aborted",
    "Bus error",
    "Floating point exception",
    "Floating-point exception",
    "Illegal instruction",
    "Segmentation fault",
    "Cannot recover from stack overflow.",
    "Cannot recover from the recursive normalization of an exception.",
    "Cannot recover from MemoryErrors while normalizing exceptions.",
    "_Py_CheckFunctionResult: a function returned NULL without setting an exception",
    "_Py_CheckFunctionResult: a function returned a result with an exception set",
    "_PyMem_DebugMalloc: Python memory allocator called without holding the GIL",
    "none_dealloc: deallocating None",
    "deallocating None",
)
_PHRASES = (
    *(f"{function}(): {fault}" for function, faults in _HEAP.items() for fault in faults),
    *_OTHERS,
    *(f"Fatal Python error: {fault}" for fault in _INTERPRETER),
)
# The longest first, since some begin with another one.
_ANY = re.compile("|".join(map(re.escape, sorted(_PHRASES, key=len, reverse=True))))


def last_words(text: str) -> str:
    """Return the phrase that a line begins with, or an empty string."""
    found = _ANY.match(text)
    return found[0] if found else ""
