"""The hypervisor: what KVM does about NMIs, in KVM's words, pinned to Linux 6.12.

Written from the project's own fact sheet and from recorded runs of a kernel, not from the kernel's source; see
``docs/provenance.md``. What a policy may change is a record of functions (``ops.NmiOps``).
"""
