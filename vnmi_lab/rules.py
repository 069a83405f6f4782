"""The rules this processor follows: id, sentence, source and how sure we are; and the open switches.

Every change of state in a trace names one of these rules. A rule that is switched off
(``Switches(off=frozenset({"R-..."}))``) simply does not act: that is how the tests show that each one is needed,
and how a learner can ask "what if the processor did not do this?".

Sources: ``APM`` is the AMD64 Architecture Programmer's Manual, volume 2, revision 3.44, by section;
``traces`` are the recorded traces of QEMU 7.2 and Bochs 3.0 in ``tests/reference``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import NamedTuple

GRADES = {
    "APM": "text of the manual",
    "KVM": "merged KVM code",
    "vendor": "a statement by AMD on a mailing list",
    "emulators": "QEMU and Bochs agree in recorded traces",
    "kernel": "recorded from a real kernel, on emulated hardware",
    "derived": "reasoned from code or text",
    "open": "nobody says: a named switch with a default",
    "model": "a limit or a label of this model, not of the processor",
}


class Rule(NamedTuple):
    """One rule: a sentence, where it comes from, and its grade (a key of ``GRADES``)."""

    id: str
    sentence: str
    source: str
    grade: str


_ROWS = (
    # --- what holds an event -----------------------------------------------------------------------------------
    ("R-GIF-SMI", "While GIF is 0 an SMI is held pending.", "APM 15.17", "APM"),
    ("R-GIF-INIT", "While GIF is 0 an INIT is held pending.", "APM 15.17", "APM"),
    ("R-GIF-NMI", "While GIF is 0 a physical NMI is held pending.", "APM 15.17, table 15-13", "APM"),
    ("R-GIF-VNMI", "While GIF is 0 a virtual NMI is held pending.", "APM 15.21.10", "APM"),
    ("R-GIF-INTR", "While GIF is 0 a physical interrupt is held pending.", "APM 15.17", "APM"),
    ("R-GIF-VIRQ", "While GIF is 0 a virtual interrupt is held pending.", "APM 15.17", "APM"),
    (
        "R-SHADOW-NMI",
        "An interrupt shadow holds a physical NMI for one instruction.",
        'APM 15.13.2 ("may"); KVM; Bochs 3.0',
        "emulators",
    ),
    ("R-SHADOW-VNMI", "An interrupt shadow holds a virtual NMI.", "APM 15.21.10", "APM"),
    ("R-SHADOW-INTR", "An interrupt shadow holds a physical interrupt for one instruction.", "APM 15.21.5", "APM"),
    (
        "R-SHADOW-VIRQ",
        "An interrupt shadow holds a virtual interrupt for one instruction.",
        "APM 15.21.5; kvm-unit-tests virq_inject_within_shadow",
        "APM",
    ),
    (
        "R-MASK-NMI",
        "From its delivery until IRET an NMI keeps further physical NMIs waiting: they are not taken and do not exit.",
        "APM ch. 8; traces",
        "emulators",
    ),
    ("R-MASK-VNMI", "While V_NMI_MASK is 1 a virtual NMI waits.", "APM 15.21.10", "APM"),
    ("R-VGIF-VNMI", "With virtual GIF enabled, V_GIF 0 holds a virtual NMI.", "APM 15.21.10, 15.33.2", "APM"),
    ("R-VGIF-VIRQ", "With virtual GIF enabled, V_GIF 0 holds a virtual interrupt.", "APM 15.33.2", "APM"),
    (
        "R-IF-INTR",
        "RFLAGS.IF 0 holds a physical interrupt; with V_INTR_MASKING it is the host's IF that counts.",
        "APM 15.21.1",
        "APM",
    ),
    ("R-IF-VIRQ", "The guest's RFLAGS.IF 0 holds a virtual interrupt.", "APM 15.21.4", "APM"),
    (
        "R-TPR-VIRQ",
        "A virtual interrupt waits unless V_INTR_PRIO is above V_TPR or V_IGN_TPR is set.",
        "APM 15.21.4",
        "APM",
    ),
    # --- which event wins ---------------------------------------------------------------------------------------
    (
        "R-PRIORITY",
        "The order at a boundary: injected event, SMI, INIT, TF trap, physical NMI, virtual NMI, INTR, virtual INTR.",
        "APM 15.20, 15.21.10; x86 convention",
        "derived",
    ),
    # --- taking an event ----------------------------------------------------------------------------------------
    (
        "R-NMI-LATCH",
        "An NMI that arrives is remembered by the processor until it is taken.",
        "APM ch. 8; traces",
        "emulators",
    ),
    (
        "R-NMI-COALESCE",
        "The latch is one deep: an NMI that arrives while one is pending merges into it.",
        "KVM process_nmi; kvm-unit-tests pending nmi; traces",
        "emulators",
    ),
    ("R-NMI-TAKE", "Taking a physical NMI empties the latch.", "APM ch. 8; traces", "emulators"),
    ("R-NMI-MASK", "Taking a physical NMI masks further NMIs.", "APM ch. 8; traces", "emulators"),
    ("R-VNMI-TAKE", "Taking a virtual NMI clears V_NMI before the IDT is read.", "APM 15.21.10", "APM"),
    ("R-VNMI-MASK", "Taking a virtual NMI sets V_NMI_MASK before the IDT is read.", "APM 15.21.10", "APM"),
    ("R-INTR-ACK", "Taking an interrupt acknowledges its vector.", "APM 16.6.3", "APM"),
    ("R-VIRQ-ACK", "Taking a virtual interrupt clears V_IRQ.", "APM 15.21.4; kvm-unit-tests virq_inject", "APM"),
    ("R-INTR-ARRIVE", "An interrupt request stays pending in the local APIC until it is taken.", "APM 16.6.3", "APM"),
    ("R-SMI-ARRIVE", "An SMI stays pending until it is taken.", "APM 15.22", "APM"),
    ("R-INIT-ARRIVE", "An INIT stays pending until it is taken.", "APM 15.17", "APM"),
    (
        "R-SMI-TAKE",
        "An SMI that is not intercepted enters SMM; the SMM handler is outside this model and returns at once.",
        "model",
        "model",
    ),
    ("R-INIT-TAKE", "An INIT that is not intercepted stops this processor.", "model", "model"),
    ("R-HLT", "HLT stops instruction execution until an event is taken.", "APM vol. 3, HLT", "APM"),
    ("R-HLT-WAKE", "An event that is taken ends HLT.", "APM vol. 3, HLT", "APM"),
    # --- IRET ---------------------------------------------------------------------------------------------------
    ("R-IRET-UNMASK", "An IRET that completes, any IRET, ends NMI masking.", "APM ch. 8; traces", "emulators"),
    ("R-VNMI-IRET", "An IRET that completes in a guest with virtual NMIs clears V_NMI_MASK.", "APM 15.21.10", "APM"),
    (
        "R-IRET-FAULT",
        "Whether an IRET that faults unmasks physical NMIs: QEMU says no, Bochs says at once.",
        "traces disagree; switch faulting_iret_unmasks",
        "open",
    ),
    (
        "R-IRET-CHECK",
        "IRETQ faults with #GP when NT is set, or the CS, SS or RIP it pops cannot be loaded.",
        "APM vol. 3, IRET",
        "APM",
    ),
    # --- interrupt shadow ---------------------------------------------------------------------------------------
    (
        "R-STI-SHADOW",
        "STI opens an interrupt shadow, only when it turns IF from 0 to 1.",
        "APM 15.21.5; Bochs 3.0",
        "emulators",
    ),
    ("R-MOVSS-SHADOW", "MOV SS opens an interrupt shadow.", "APM 15.21.5; Bochs 3.0", "emulators"),
    ("R-MOVSS-TWICE", "MOV SS directly after MOV SS opens no new shadow.", "traces", "emulators"),
    ("R-SHADOW-END", "A shadow ends when the next instruction completes.", "APM 15.21.5; traces", "emulators"),
    ("R-SHADOW-DELIVERY", "A shadow ends when an event is delivered.", "traces", "emulators"),
    (
        "R-SHADOW-EXIT",
        "An intercepted instruction inside a shadow exits with INTERRUPT_SHADOW still 1.",
        "traces",
        "emulators",
    ),
    # --- single step --------------------------------------------------------------------------------------------
    (
        "R-TF-TRAP",
        "An instruction that started with TF set is followed by a #DB trap.",
        "APM 13.1.4; kvm-unit-tests svm_test_singlestep",
        "APM",
    ),
    ("R-TF-MOVSS", "The TF trap that is due right after MOV SS is not taken.", "traces", "emulators"),
    ("R-TF-EVENT", "Delivering an event clears TF, so a handler does not run single-stepped.", "APM 8.7.3", "APM"),
    ("R-RF-CLEAR", "RFLAGS.RF is cleared when an instruction completes.", "APM 3.1.6", "APM"),
    ("R-RF-FAULT", "The flags image that a fault pushes has RF set.", "APM 3.1.6", "APM"),
    # --- delivery through the IDT -------------------------------------------------------------------------------
    (
        "R-IDT-LIMIT",
        "A vector beyond the IDT's limit raises #GP with the vector in its error code.",
        "APM 8.7.1",
        "APM",
    ),
    ("R-IDT-TYPE", "A descriptor that is no 64-bit interrupt or trap gate raises #GP.", "APM 8.7.1", "APM"),
    ("R-IDT-DPL", "INT n, INT3 raise #GP when the gate's DPL is below CPL.", "APM 8.7.4", "APM"),
    ("R-IDT-PRESENT", "A gate that is not present raises #NP.", "APM 8.7.1; traces", "APM"),
    ("R-IDT-CS", "A gate whose selector is no 64-bit code segment raises #GP.", "APM 8.7.1", "APM"),
    (
        "R-IST",
        "A gate with an IST index takes its stack from the TSS, even when that stack is in use.",
        "APM 8.9.4",
        "APM",
    ),
    (
        "R-FRAME",
        "The stack pointer is aligned down to 16 and SS, RSP, RFLAGS, CS, RIP are pushed.",
        "APM 8.9.3; traces",
        "APM",
    ),
    (
        "R-FRAME-ERROR",
        "Exceptions that have an error code push it last; an injected one pushes one when EVENTINJ.EV says so.",
        "APM 8.9.3, 15.20",
        "APM",
    ),
    ("R-GATE-IF", "An interrupt gate clears RFLAGS.IF, a trap gate leaves it.", "APM 8.7.3", "APM"),
    ("R-ENTER", "The processor continues at the gate's handler.", "APM 8.9", "APM"),
    ("R-CR2", "A page fault that is delivered puts its address in CR2.", "APM 8.2.15", "APM"),
    (
        "R-DF",
        "A contributory fault while delivering a contributory fault, or any of these during #PF, becomes #DF.",
        "APM 8.2.9; traces",
        "APM",
    ),
    ("R-SHUTDOWN", "A fault while delivering #DF shuts the processor down.", "APM 8.2.9", "APM"),
    # --- VMRUN --------------------------------------------------------------------------------------------------
    ("R-VMRUN", "VMRUN loads the guest's state from the VMCB.", "APM 15.5.1", "APM"),
    ("R-VMRUN-ADDRESS", "VMRUN raises #GP when RAX is not the physical address of a page.", "APM vol. 3, VMRUN", "APM"),
    ("R-VMRUN-GIF", "VMRUN sets GIF.", "APM 15.5.1", "APM"),
    (
        "R-VMRUN-SHADOW",
        "VMRUN loads INTERRUPT_SHADOW; a shadow loaded so counts as STI's.",
        "APM 15.5.1; traces",
        "emulators",
    ),
    ("R-VMRUN-VIRQ", "VMRUN loads V_IRQ, V_TPR and V_GIF.", "APM 15.21.2, 15.21.4, 15.33.2", "APM"),
    (
        "R-VMRUN-VNMI",
        "With V_NMI_ENABLE, VMRUN loads V_NMI and V_NMI_MASK; a write to the VMCB after that is not seen.",
        "APM 15.21.10",
        "APM",
    ),
    (
        "R-EVENTINJ",
        "A valid EVENTINJ is delivered before the guest's first instruction, whatever IF, the shadow or any mask say.",
        "APM 15.20",
        "APM",
    ),
    ("R-EVENTINJ-NMI", "An NMI injected through EVENTINJ does not mask further NMIs.", "APM 15.20", "APM"),
    ("R-EVENTINJ-VNMI", "With V_NMI_ENABLE, VMRUN sets V_NMI_MASK when EVENTINJ holds an NMI.", "APM 15.21.10", "APM"),
    ("R-EVENTINJ-ICPT", "An injected exception is not itself intercepted.", "APM 15.20", "APM"),
    ("R-EVENTINJ-VECTOR", "The vector of an injected NMI is ignored: it is 2.", "APM 15.20", "APM"),
    (
        "R-CLEAN",
        "A processor that caches may keep the old value of a field whose clean bit is set.",
        "APM 15.15.3",
        "APM",
    ),
    # --- consistency checks: VMRUN answers VMEXIT_INVALID -----------------------------------------------------------
    (
        "R-INVALID",
        "A VMRUN that fails a check exits at once with EXITCODE -1 and changes nothing else in the VMCB.",
        "APM 15.5.1",
        "APM",
    ),
    ("R-CHECK-SVME", "EFER.SVME must be 1 in the VMCB.", "APM 15.5.1", "APM"),
    ("R-CHECK-VMRUN", "The VMRUN intercept must be set.", "APM 15.5.1", "APM"),
    ("R-CHECK-ASID", "ASID must not be 0.", "APM 15.5.1", "APM"),
    ("R-CHECK-CR0", "CR0 must not have NW without CD, nor any of its upper 32 bits.", "APM 15.5.1", "APM"),
    ("R-CHECK-CR4", "CR4 must not have reserved bits.", "APM 15.5.1", "APM"),
    ("R-CHECK-CR3", "CR3 must not have reserved bits.", "APM 15.5.1", "APM"),
    ("R-CHECK-EFER", "EFER must not have reserved bits.", "APM 15.5.1", "APM"),
    (
        "R-CHECK-LONG",
        "With EFER.LME and CR0.PG set, CR0.PE and CR4.PAE must be set, and CS.L and CS.D must not both be.",
        "APM 15.5.1",
        "APM",
    ),
    ("R-CHECK-DR", "DR6 and DR7 must not have any of their upper 32 bits.", "APM 15.5.1", "APM"),
    (
        "R-CHECK-MAPS",
        "The I/O and MSR permission maps must lie inside the physical address space.",
        "APM 15.5.1",
        "APM",
    ),
    ("R-CHECK-INJ-TYPE", "EVENTINJ must have a type that is defined.", "APM 15.20", "APM"),
    (
        "R-CHECK-INJ-EXC",
        "EVENTINJ of type exception must have the vector of an exception of this mode, and 2 is none.",
        "APM 15.20; kvm-unit-tests exc_inject",
        "APM",
    ),
    ("R-CHECK-VNMI", "V_NMI_ENABLE needs the NMI intercept.", "APM 15.21.10; kvm-unit-tests vnmi", "APM"),
    (
        "R-MODEL-RING0",
        "This model runs 64-bit guests at CPL 0 only; other modes are answered like a failed check.",
        "model",
        "model",
    ),
    # --- intercepts -----------------------------------------------------------------------------------------------
    (
        "R-ICPT-INSN",
        "An intercepted instruction exits before anything of it is committed, RIP at the instruction.",
        "APM 15.7, 15.9",
        "APM",
    ),
    ("R-ICPT-EXC", "An intercepted exception exits instead of being delivered.", "APM 15.12", "APM"),
    ("R-ICPT-SMI", "An intercepted SMI exits 62h and stays pending.", "APM 15.13.3, 15.22.2", "APM"),
    ("R-ICPT-INIT", "An intercepted INIT exits 63h and stays pending.", "APM 15.13.4", "APM"),
    (
        "R-ICPT-NMI",
        "An intercepted physical NMI exits 61h and stays pending for the host.",
        "APM 15.13.2, table 15-13",
        "APM",
    ),
    (
        "R-ICPT-INTR",
        "An intercepted physical interrupt exits 60h and stays pending for the host.",
        "APM 15.13.1",
        "APM",
    ),
    (
        "R-ICPT-VINTR",
        "The VINTR intercept exits 64h when a virtual interrupt is about to be taken.",
        "APM 15.13.5",
        "APM",
    ),
    ("R-ICPT-SHUTDOWN", "An intercepted shutdown exits 7Fh.", "APM 15.14.3", "APM"),
    ("R-ICPT-IOIO", "An IN or OUT whose bit is set in the I/O permission map exits 7Bh.", "APM 15.10", "APM"),
    (
        "R-NPF",
        "An access to a page that the nested page table does not map exits 400h with the address in EXITINFO2.",
        "APM 15.25.6",
        "APM",
    ),
    # --- #VMEXIT --------------------------------------------------------------------------------------------------
    ("R-VMEXIT", "#VMEXIT writes the guest's state to the VMCB.", "APM 15.6", "APM"),
    ("R-VMEXIT-HOST", "#VMEXIT puts back the host's state.", "APM 15.6", "APM"),
    ("R-VMEXIT-GIF", "#VMEXIT clears GIF.", "APM 15.6", "APM"),
    ("R-VMEXIT-SHADOW", "#VMEXIT writes INTERRUPT_SHADOW.", "APM 15.6", "APM"),
    ("R-VMEXIT-VIRQ", "#VMEXIT writes V_IRQ, V_TPR and V_GIF.", "APM 15.21.2, 15.21.4, 15.33.2", "APM"),
    ("R-VMEXIT-VNMI", "#VMEXIT writes V_NMI and V_NMI_MASK when V_NMI_ENABLE is 1.", "APM 15.21.10", "APM"),
    ("R-VNMI-EXIT", "#VMEXIT while a virtual NMI is being delivered saves V_NMI_MASK as 0.", "APM 15.21.10", "APM"),
    (
        "R-EVENTINJ-EXIT",
        "#VMEXIT while an *injected* NMI is being delivered saves V_NMI_MASK as 0 too.",
        "not stated; switch injected_nmi_exit_keeps_mask",
        "open",
    ),
    (
        "R-EXITINTINFO",
        "EXITINTINFO holds the event whose delivery the #VMEXIT interrupted; an injected one as EVENTINJ had it.",
        "APM 15.7.2; traces",
        "APM",
    ),
    ("R-EVENTINJ-V", "After the exit EVENTINJ.V reads 0.", "APM 15.20; kvm-unit-tests exc_inject", "APM"),
    (
        "R-NRIP",
        "nRIP holds the next sequential instruction on instruction intercepts and 0 on all other exits.",
        "APM 15.7.1",
        "APM",
    ),
    # --- instructions of SVM and of the platform --------------------------------------------------------------------
    ("R-STGI", "STGI sets GIF.", "APM 15.17", "APM"),
    ("R-CLGI", "CLGI clears GIF.", "APM 15.17", "APM"),
    (
        "R-VGIF",
        "In a guest with virtual GIF, STGI and CLGI set and clear V_GIF and leave GIF alone.",
        "APM 15.33.2; kvm-unit-tests vgif",
        "APM",
    ),
    ("R-SVME-UD", "VMRUN, STGI and CLGI raise #UD while EFER.SVME is 0.", "APM 15.4", "APM"),
    ("R-VMMCALL-UD", "A VMMCALL that is not intercepted raises #UD.", "APM 15.18", "APM"),
    (
        "R-ICR-NMI",
        "Writing the local APIC's ICR with delivery mode NMI sends an NMI; to itself, it arrives at once.",
        "APM 16.5",
        "APM",
    ),
    ("R-ICR-FIXED", "Writing the ICR with delivery mode fixed requests that vector.", "APM 16.5", "APM"),
    (
        "R-PAGE-FAULT",
        "Linear addresses below 4 GiB are mapped one to one, all others are not mapped.",
        "model",
        "model",
    ),
    ("R-CANONICAL", "An address that is not canonical raises #GP.", "APM 5.3.1", "APM"),
    ("R-SS-LOAD", "MOV SS with a selector that is no data segment of this CPL raises #GP.", "APM 4.6", "APM"),
)

# Labels name who made a change that is no rule of the machine; there is nothing to switch off.
_LABELS = (
    ("R-EXEC", "The instruction that completed changed it.", "APM vol. 3", "APM"),
    ("R-HOST", "The host's software wrote it.", "model", "model"),
    ("R-WORLD", "The outside world raised it.", "model", "model"),
)

LABELS: dict[str, Rule] = {row[0]: Rule(*row) for row in _LABELS}
SWITCHABLE: dict[str, Rule] = {row[0]: Rule(*row) for row in _ROWS}
RULES: dict[str, Rule] = {**SWITCHABLE, **LABELS}
assert len(RULES) == len(_ROWS) + len(_LABELS), "a rule id stands twice"
assert all(rule.grade in GRADES for rule in RULES.values())


@dataclass(frozen=True, slots=True)
class Switches:
    """Questions that no source answers, with the default this project takes, and rules switched off on purpose."""

    faulting_iret_unmasks: bool = False
    """An IRET that faults unmasks physical NMIs (Bochs, Intel) instead of leaving them masked (QEMU)."""
    vnmi_before_intr: bool = True
    """At one boundary a virtual NMI comes before a physical interrupt (x86 convention: NMI above INTR)."""
    injected_nmi_exit_keeps_mask: bool = False
    """#VMEXIT during delivery of an *injected* NMI under vNMI saves V_NMI_MASK as 1 instead of 0."""
    eventinj_ends_shadow: bool = True
    """Delivering EVENTINJ ends an interrupt shadow, as any delivery does."""
    injected_soft_uses_nrip: bool = False
    """An injected software interrupt returns to the VMCB's nRIP (what KVM relies on) instead of its RIP (emulators)."""
    caching: bool = False
    """The processor keeps VMCB fields whose clean bit is set, as the manual allows."""
    off: frozenset[str] = frozenset()
    """Rules that do not act."""

    def __post_init__(self) -> None:
        """Refuse the id of a rule that does not exist."""
        for rule in self.off:
            if rule not in SWITCHABLE:
                msg = f"off names {rule!r}, which is no rule that can be switched off; see vnmi_lab.rules.SWITCHABLE"
                raise ValueError(msg)

    def names(self) -> tuple[str, ...]:
        """Return the names of the open switches."""
        return tuple(f.name for f in fields(self) if f.name != "off")
