"""How the processes keep their memory in which updates are timed."""

MEMORY = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=18446744073709551615:"
    "glibc.malloc.arena_max=1",
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""Environment variables of workers that time: a process keeps the memory that it frees, and torch
asks for huge pages.

By default, glibc returns large blocks to the kernel and asks for them again. An update of AlexNet
(batch 2, 2 cores of a virtual machine) then made 55,000 page faults. BP took 196 ms instead of 122,
and the percentiles of ratios reached from 0.8 to 2.1. With memory kept in small pages, the ratio of
Z-IL to BP was 1.09 in one process and 1.01 in another, depending on where its blocks were. With
huge pages it was 1.01."""
