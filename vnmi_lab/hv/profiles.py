"""The policies, each a record of functions: from blind injection to vNMI, with the real mistakes on the way.

What each follows is named by commit or posting. A mutant is one line away from its parent (``but``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vnmi_lab.hv import exits, svm, x86
from vnmi_lab.hv.calls import OURS, Origin, kvm
from vnmi_lab.hv.ops import Events, NmiOps
from vnmi_lab.hv.svm import SVM, is_vnmi_enabled, requeue, write_vnmi
from vnmi_lab.hv.vcpu import REQ_EVENT

if TYPE_CHECKING:
    from vnmi_lab.hv.vcpu import Vcpu
    from vnmi_lab.hw.vmcb import Vmcb

TO_6_3 = Origin("Linux up to v6.3, arch/x86/kvm/", "KVM")
V4 = Origin('"Virtual NMI feature" v4, posted 2022-08-29, arch/x86/kvm/', "vendor")
RC = Origin("Linux v6.4-rc1, arch/x86/kvm/", "KVM")
XEN = Origin("after Xen c447b7308b13 (svm/intr.c, svm.c) and bhyve", "derived")


def no(_vcpu: Vcpu) -> bool:
    """Answer no: the policy has no such thing."""
    return False


@kvm("x86.c", TO_6_3, "process_nmi")
def process_nmi_before_vnmi(vcpu: Vcpu) -> None:
    """Accept the NMIs that were queued: two when none is in service, one otherwise."""
    limit = 1 if vcpu.ops.get_nmi_mask(vcpu) or vcpu.nmi_injected else 2
    x86.accept(vcpu, limit)
    vcpu.make_request(REQ_EVENT)


LEGACY = NmiOps(
    name="legacy",
    follows="Linux up to v6.3: IRET intercept, RIP compare, single step",
    nmi_allowed=svm.svm_nmi_allowed,
    inject_nmi=svm.svm_inject_nmi,
    enable_nmi_window=svm.svm_enable_nmi_window,
    get_nmi_mask=svm.svm_get_nmi_mask,
    set_nmi_mask=svm.svm_set_nmi_mask,
    is_vnmi_pending=no,
    set_vnmi_pending=no,
    process_nmi=process_nmi_before_vnmi,
    iret_interception=exits.iret_interception,
    db_interception=exits.db_interception,
    stgi_interception=exits.stgi_interception,
    complete_interrupts=svm.svm_complete_interrupts,
    sev_es_nmi_complete=exits.sev_es_nmi_complete_before_6_6,
    init_vmcb=svm.init_vmcb,
    get_vcpu_events=x86.get_vcpu_events,
    set_vcpu_events=x86.set_vcpu_events,
    mark_vmcb_dirty=svm.vmcb_mark_dirty,
)

VNMI = LEGACY.but(
    name="vnmi",
    follows="Linux v6.4 (fa4c027a7956) with b2ce89978889, 389fbbec261b, 72046d0a077a and b4bd55646747",
    process_nmi=x86.process_nmi,
    is_vnmi_pending=svm.svm_is_vnmi_pending,
    set_vnmi_pending=svm.svm_set_vnmi_pending,
    sev_es_nmi_complete=exits.sev_es_nmi_complete,
    uses_vnmi=True,
)


# --- blind -----------------------------------------------------------------------------------------------------------


@kvm(SVM, OURS)
def inject_and_forget(vcpu: Vcpu) -> None:
    """Write the NMI to EVENTINJ and remember nothing."""
    vcpu.vmcb.event_inj = svm.EVTINJ_NMI
    vcpu.nmi_injections += 1


def unmasked(_vcpu: Vcpu, _masked: bool) -> None:  # noqa: FBT001 - KVM's signature
    """Keep no mask."""


@kvm(SVM, OURS)
def look_again(vcpu: Vcpu) -> None:
    """Look again after the next exit, whatever it is."""
    vcpu.make_request(REQ_EVENT)


BLIND = LEGACY.but(
    name="blind",
    follows="nobody: injection without looking (APM 15.20: it blocks nothing)",
    inject_nmi=inject_and_forget,
    enable_nmi_window=look_again,
    get_nmi_mask=no,
    set_nmi_mask=unmasked,
)


# --- patch v4 --------------------------------------------------------------------------------------------------------


@kvm(SVM, V4, "init_vmcb")
def init_vmcb_v4(vcpu: Vcpu) -> None:
    """Enable virtual NMIs in L2's VMCB as well: v4 copied the bits of vmcb01 into vmcb02."""
    svm.init_vmcb(vcpu)
    if vcpu.features.has_vnmi:
        vcpu.vmcb.update("int_ctl", v_nmi_enable=1)


def get_vnmi_vmcb(vcpu: Vcpu) -> Vmcb:
    """Return the VMCB that runs, L2's included: vmcb02 in guest mode. This model has one for both."""
    return vcpu.vmcb


def is_vnmi_enabled_v4(vcpu: Vcpu) -> bool:
    """Return whether the VMCB that runs has virtual NMIs, a nested guest's included."""
    return bool(get_vnmi_vmcb(vcpu).int_ctl.v_nmi_enable)


def set_vnmi_mask(vcpu: Vcpu) -> None:
    """Set V_NMI_MASK, or without virtual NMIs a flag: HF_GIF_MASK where HF_NMI_MASK was meant. Nobody gets there."""
    if is_vnmi_enabled_v4(vcpu):
        write_vnmi(vcpu, v_nmi_blocking=1)
    else:
        vcpu.soft_gif = True


def clear_vnmi_mask(vcpu: Vcpu) -> None:
    """Clear V_NMI_MASK, or without virtual NMIs the same wrong flag."""
    if is_vnmi_enabled_v4(vcpu):
        write_vnmi(vcpu, v_nmi_blocking=0)
    else:
        vcpu.soft_gif = False


@kvm(SVM, V4, "svm_inject_nmi")
def svm_inject_nmi_v4(vcpu: Vcpu) -> None:
    """Put the NMI into V_NMI where virtual NMIs are enabled and it is not L1's; as before otherwise."""
    if is_vnmi_enabled_v4(vcpu) and not vcpu.nmi_l1_to_l2:
        write_vnmi(vcpu, v_nmi_pending=1)
        vcpu.nmi_injections += 1
        return
    svm.svm_inject_nmi(vcpu)


@kvm(SVM, V4, "svm_nmi_blocked")
def svm_nmi_blocked_v4(vcpu: Vcpu) -> bool:
    """Say whether the V_NMI slot is taken; then a shadow, KVM's own mask, and not V_NMI_MASK."""
    if not svm.gif_set(vcpu):
        return True
    if vcpu.guest_mode and vcpu.features.exit_on_nmi:
        return False
    if is_vnmi_enabled_v4(vcpu) and get_vnmi_vmcb(vcpu).int_ctl.v_nmi_pending:
        return True
    return bool(vcpu.vmcb.int_state.interrupt_shadow) or vcpu.nmi_masked


@kvm(SVM, V4, "svm_enable_nmi_window")
def svm_enable_nmi_window_v4(vcpu: Vcpu) -> None:
    """Return early when V_NMI is pending: the processor will take it, it was thought, and then the next."""
    if is_vnmi_enabled_v4(vcpu) and get_vnmi_vmcb(vcpu).int_ctl.v_nmi_pending:
        return
    svm.open_window(vcpu, masked=vcpu.nmi_masked)


@kvm(SVM, V4, "svm_get_nmi_mask")
def svm_get_nmi_mask_v4(vcpu: Vcpu) -> bool:
    """Say whether an NMI is in service: V_NMI_MASK of the VMCB that runs, or KVM's own flag."""
    if is_vnmi_enabled_v4(vcpu):
        return bool(get_vnmi_vmcb(vcpu).int_ctl.v_nmi_blocking)
    return vcpu.nmi_masked


@kvm(SVM, V4, "svm_set_nmi_mask")
def svm_set_nmi_mask_v4(vcpu: Vcpu, masked: bool) -> None:  # noqa: FBT001 - KVM's signature
    """Set the mask only in SMM: what user space restores is ignored where virtual NMIs are enabled."""
    if not is_vnmi_enabled_v4(vcpu):
        svm.svm_set_nmi_mask(vcpu, masked)
    elif vcpu.in_smm and masked:
        set_vnmi_mask(vcpu)
    elif vcpu.in_smm:
        clear_vnmi_mask(vcpu)


@kvm("x86.c", V4, "get_vcpu_events")
def get_vcpu_events_v4(vcpu: Vcpu) -> Events:
    """Report whether an NMI is pending in software; one in V_NMI is not seen."""
    vcpu.ops.process_nmi(vcpu)
    shadow = bool(vcpu.vmcb.int_state.interrupt_shadow)
    return Events(vcpu.nmi_injected, int(vcpu.nmi_pending != 0), vcpu.ops.get_nmi_mask(vcpu), shadow)


@kvm("x86.c", V4, "set_vcpu_events")
def set_vcpu_events_v4(vcpu: Vcpu, events: Events) -> None:
    """Take over what is pending as it is, as every kernel did before v6.4."""
    vcpu.nmi_injected = events.injected
    x86.take_as_it_is(vcpu, events)
    x86.restore_mask(vcpu, events)


PATCH_V4 = LEGACY.but(
    name="patch-v4",
    follows='"Virtual NMI feature" v4, posted 2022-08-29',
    inject_nmi=svm_inject_nmi_v4,
    nmi_allowed=svm.allowed_unless(svm_nmi_blocked_v4),
    enable_nmi_window=svm_enable_nmi_window_v4,
    get_nmi_mask=svm_get_nmi_mask_v4,
    set_nmi_mask=svm_set_nmi_mask_v4,
    get_vcpu_events=get_vcpu_events_v4,
    set_vcpu_events=set_vcpu_events_v4,
    init_vmcb=init_vmcb_v4,
    uses_vnmi=True,
)


# --- v6.4-rc ---------------------------------------------------------------------------------------------------------


@kvm(SVM, RC, "svm_is_vnmi_pending")
def svm_is_vnmi_pending_rc(vcpu: Vcpu) -> bool:
    """Ask about V_NMI, and test V_NMI_MASK: bit 12 where bit 11 was meant."""
    return is_vnmi_enabled(vcpu) and bool(vcpu.vmcb.int_ctl.v_nmi_blocking)


@kvm(SVM, RC, "svm_inject_nmi")
def svm_inject_nmi_rc(vcpu: Vcpu) -> None:
    """Write the NMI to EVENTINJ and intercept its IRET, although the processor masks by itself."""
    vcpu.vmcb.event_inj = svm.EVTINJ_NMI
    if vcpu.nmi_l1_to_l2:
        return
    vcpu.nmi_masked = True
    svm.svm_set_iret_intercept(vcpu)
    vcpu.nmi_injections += 1


@kvm(SVM, RC, "svm_enable_nmi_window")
def svm_enable_nmi_window_rc(vcpu: Vcpu) -> None:
    """Warn whenever a window is asked for with virtual NMIs, needed or not; then open it as ever."""
    if is_vnmi_enabled(vcpu):
        vcpu.warnings += 1
    svm.open_window(vcpu, masked=vcpu.ops.get_nmi_mask(vcpu))


VNMI_6_4_RC = VNMI.but(
    name="vnmi-6.4-rc",
    follows="Linux v6.4-rc1 (fa4c027a7956), before b2ce89978889, 389fbbec261b, 72046d0a077a and b4bd55646747",
    is_vnmi_pending=svm_is_vnmi_pending_rc,
    inject_nmi=svm_inject_nmi_rc,
    enable_nmi_window=svm_enable_nmi_window_rc,
    sev_es_nmi_complete=exits.sev_es_nmi_complete_before_6_6,
)


# --- Xen and bhyve ---------------------------------------------------------------------------------------------------


@kvm(SVM, XEN)
def iret_intercepted(vcpu: Vcpu) -> bool:
    """Say whether NMIs are masked: they are while IRET is intercepted."""
    return bool(vcpu.vmcb.intercept_3.iret)


@kvm(SVM, XEN)
def iret_interception_xen(vcpu: Vcpu) -> None:
    """Unmask at once, and borrow an interrupt shadow so that the next NMI waits for the IRET."""
    vcpu.nmi_window_exits += 1
    vcpu.nmi_masked = False
    svm.svm_clr_iret_intercept(vcpu)
    svm.svm_set_interrupt_shadow(vcpu, True)  # noqa: FBT003 - KVM's signature
    vcpu.make_request(REQ_EVENT)


@kvm(SVM, XEN)
def vintr_window(vcpu: Vcpu) -> None:
    """Wait for the IRET intercept if masked, else for a dummy virtual interrupt, which waits for IF too.

    Xen looks at what waits on every entry, so any exit serves as well.
    """
    vcpu.make_request(REQ_EVENT)
    if not iret_intercepted(vcpu):
        svm.svm_enable_irq_window(vcpu)


@kvm("x86.c", XEN)
def remember_one(vcpu: Vcpu) -> None:
    """Remember one NMI: a flag, not a count, so two that arrive together are one."""
    x86.accept(vcpu, 1)
    vcpu.make_request(REQ_EVENT)


XEN_LIKE = LEGACY.but(
    name="xen-like",
    process_nmi=remember_one,
    follows="Xen c447b7308b13 (svm/intr.c, svm.c) without vNMI; bhyve's svm.c does the same",
    get_nmi_mask=iret_intercepted,
    iret_interception=iret_interception_xen,
    enable_nmi_window=vintr_window,
)


# --- mutants ---------------------------------------------------------------------------------------------------------


@kvm(SVM, OURS)
def unmask_at_iret_exit(vcpu: Vcpu) -> None:
    """Unmask when IRET exits, before it has executed."""
    vcpu.nmi_window_exits += 1
    svm.svm_set_nmi_mask(vcpu, False)  # noqa: FBT003 - KVM's signature
    vcpu.make_request(REQ_EVENT)


@kvm(SVM, OURS)
def skip_the_iret(vcpu: Vcpu) -> None:
    """Move RIP over the IRET as if it had been carried out."""
    exits.iret_interception(vcpu)
    vcpu.vmcb.rip = vcpu.vmcb.next_rip


@kvm(SVM, OURS)
def complete_and_forget(vcpu: Vcpu) -> None:
    """Unmask as always, but do not look at EXITINTINFO."""
    svm.complete_iret(vcpu)
    requeue(vcpu, again=False)


@kvm("x86.c", OURS)
def process_nmi_uncounted(vcpu: Vcpu) -> None:
    """Accept what was queued without counting the one in the processor's slot."""
    limit = 1 if vcpu.ops.get_nmi_mask(vcpu) or vcpu.nmi_injected else 2
    x86.accept(vcpu, limit)
    if vcpu.nmi_pending and vcpu.ops.set_vnmi_pending(vcpu):
        vcpu.nmi_pending -= 1
    if vcpu.nmi_pending:
        vcpu.make_request(REQ_EVENT)


@kvm(SVM, OURS)
def init_vmcb_without_nmi_intercept(vcpu: Vcpu) -> None:
    """Enable virtual NMIs and forget the NMI intercept that they need."""
    svm.init_vmcb(vcpu)
    if vcpu.vmcb.int_ctl.v_nmi_enable:
        vcpu.vmcb.intercept("nmi", on=False)


def leave_clean(_vcpu: Vcpu) -> None:
    """Leave the clean bit of int_ctl set."""


MUTANTS: tuple[NmiOps, ...] = (
    LEGACY.but(
        name="m1",
        follows="inject by EVENTINJ, never track IRET",
        inject_nmi=inject_and_forget,
        enable_nmi_window=look_again,
    ),
    LEGACY.but(name="m2", follows="unmask when IRET exits", iret_interception=unmask_at_iret_exit),
    XEN_LIKE.but(name="m3", follows="unmask at the IRET exit with a borrowed shadow"),
    LEGACY.but(name="m4", follows="advance RIP at the IRET exit", iret_interception=skip_the_iret),
    LEGACY.but(name="m5", follows="do not requeue from EXITINTINFO", complete_interrupts=complete_and_forget),
    VNMI.but(
        name="m6",
        follows="v4's window in the merged design: no EVENTINJ beside V_NMI",
        enable_nmi_window=svm_enable_nmi_window_v4,
        nmi_allowed=svm.allowed_unless(svm_nmi_blocked_v4),
    ),
    VNMI.but(name="m7", follows="process_nmi does not count V_NMI", process_nmi=process_nmi_uncounted),
    VNMI.but(name="m8", follows="is_vnmi_pending tests bit 12", is_vnmi_pending=svm_is_vnmi_pending_rc),
    VNMI.but(
        name="m9",
        follows="events miss V_NMI and the mask is not restored",
        get_vcpu_events=get_vcpu_events_v4,
        set_nmi_mask=svm_set_nmi_mask_v4,
    ),
    VNMI.but(name="m10", follows="V_NMI_ENABLE without the NMI intercept", init_vmcb=init_vmcb_without_nmi_intercept),
    VNMI.but(name="m11", follows="IRET intercepted with virtual NMIs, too", inject_nmi=svm_inject_nmi_rc),
    VNMI.but(name="m12", follows="clean bit 3 left set", mark_vmcb_dirty=leave_clean),
)

POLICIES: dict[str, NmiOps] = {
    ops.name: ops for ops in (BLIND, LEGACY, PATCH_V4, VNMI_6_4_RC, VNMI, XEN_LIKE, *MUTANTS)
}
"""Every shipped policy by the name it has on the command line."""

ABOUT: dict[str, str] = {
    "blind": "Injects an NMI whenever one waits, and never looks whether another is in service.",
    "legacy": "KVM before vNMI: remembers the NMI in service, intercepts its IRET, steps over it, then injects.",
    "patch-v4": "The vNMI series of 2022 as it was posted, with the flaws that its review found.",
    "vnmi-6.4-rc": "vNMI as it first came into Linux: it asks the wrong bit whether an NMI is pending.",
    "vnmi": "KVM with vNMI: one NMI pending and one in service inside the processor, no exit for an IRET.",
    "xen-like": "Takes the exit of the IRET for the end of the NMI, and holds the next one back by a shadow alone.",
    **{ops.name: f"A mistake somebody could make: {ops.follows}." for ops in MUTANTS},
}
"""What each policy does, in a sentence for who has not read the code; ``follows`` says where it is from."""
