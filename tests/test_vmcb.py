"""The VMCB: where fields stand, what setting one does, how it reads, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vnmi_lab.hw.bits import Bits, Register
from vnmi_lab.hw.memory import PAGE
from vnmi_lab.hw.vmcb import (
    FIELDS,
    LAYOUT,
    Clean,
    Difference,
    EventInj,
    Field,
    IntCtl,
    Intercept3,
    Intercept4,
    Vmcb,
    diff,
    reader,
)  # fmt: skip

# APM volume 2, appendix B, typed in again: control area, then save area (absolute offsets).
MANUAL = {
    "intercept_cr": (0x000, 4), "intercept_dr": (0x004, 4), "intercept_exceptions": (0x008, 4), "intercept_3": (0x00C,
    4),
    "intercept_4": (0x010, 4), "intercept_5": (0x014, 4), "pause_filter_thresh": (0x03C, 2),
    "pause_filter_count": (0x03E, 2), "iopm_base_pa": (0x040, 8), "msrpm_base_pa": (0x048, 8), "tsc_offset": (0x050, 8),
    "asid": (0x058, 4), "tlb_ctl": (0x05C, 1), "int_ctl": (0x060, 4), "int_vector": (0x064, 4), "int_state": (0x068, 4),
    "exit_code": (0x070, 8), "exit_info_1": (0x078, 8), "exit_info_2": (0x080, 8), "exit_int_info": (0x088, 8),
    "nested_ctl": (0x090, 8), "event_inj": (0x0A8, 8), "nested_cr3": (0x0B0, 8), "virt_ext": (0x0B8, 8),
    "clean": (0x0C0, 4), "next_rip": (0x0C8, 8),
    "es_selector": (0x400, 2), "cs_selector": (0x410, 2), "cs_attrib": (0x412, 2), "ss_selector": (0x420, 2),
    "ds_selector": (0x430, 2), "gdt_limit": (0x464, 4), "gdt_base": (0x468, 8), "idt_limit": (0x484, 4),
    "idt_base": (0x488, 8), "tr_base": (0x498, 8), "cpl": (0x4CB, 1), "efer": (0x4D0, 8), "cr4": (0x548, 8),
    "cr3": (0x550, 8), "cr0": (0x558, 8), "dr7": (0x560, 8), "dr6": (0x568, 8), "rflags": (0x570, 8), "rip": (0x578, 8),
    "rsp": (0x5D8, 8), "rax": (0x5F8, 8), "cr2": (0x640, 8), "g_pat": (0x668, 8), "dbgctl": (0x670, 8),
}  # fmt: skip
BITS = [  # KVM's masks, typed in again
    (IntCtl, "v_tpr", 0xFF), (IntCtl, "v_irq", 1 << 8), (IntCtl, "v_gif", 1 << 9), (IntCtl, "v_nmi_pending", 1 << 11),
    (IntCtl, "v_nmi_blocking", 1 << 12), (IntCtl, "v_intr_prio", 0xF << 16), (IntCtl, "v_ign_tpr", 1 << 20),
    (IntCtl, "v_intr_masking", 1 << 24), (IntCtl, "v_gif_enable", 1 << 25), (IntCtl, "v_nmi_enable", 1 << 26),
    (IntCtl, "x2avic", 1 << 30), (IntCtl, "avic", 1 << 31),
    (EventInj, "vector", 0xFF), (EventInj, "type", 7 << 8), (EventInj, "ev", 1 << 11), (EventInj, "valid", 1 << 31),
    (EventInj, "error_code", 0xFFFFFFFF << 32),
    (Intercept3, "intr", 1), (Intercept3, "nmi", 2), (Intercept3, "smi", 4), (Intercept3, "init", 8),
    (Intercept3, "vintr", 16), (Intercept3, "iret", 1 << 20), (Intercept3, "hlt", 1 << 24),
    (Intercept3, "shutdown", 1 << 31), (Intercept4, "vmrun", 1), (Intercept4, "vmmcall", 2), (Intercept4, "stgi", 16),
    (Intercept4, "clgi", 32),
]  # fmt: skip
CLEAN = {  # APM 15.15.3, table 15-9: bit, some of what it covers
    "intercepts": (0, ("intercept_exceptions", "intercept_3", "intercept_4", "tsc_offset", "pause_filter_count")),
    "perm_map": (1, ("iopm_base_pa", "msrpm_base_pa")),
    "asid": (2, ("asid",)),
    "intr": (3, ("int_ctl", "int_vector")),
    "npt": (4, ("nested_ctl", "nested_cr3", "g_pat")),
    "cr": (5, ("cr0", "cr3", "cr4", "efer")),
    "dr": (6, ("dr6", "dr7")),
    "dt": (7, ("gdt_base", "idt_base", "idt_limit")),
    "seg": (8, ("cs_selector", "ss_selector", "cpl")),
    "cr2": (9, ("cr2",)),
    "lbr": (10, ("dbgctl",)),
}
NEVER_CACHED = ("int_state", "event_inj", "rip", "rsp", "rax", "rflags", "tlb_ctl", "exit_code", "next_rip", "clean")


def test_every_field_stands_where_the_manual_says() -> None:
    assert {row.name: (row.offset, row.size) for row in LAYOUT} == MANUAL


@pytest.mark.parametrize(("register", "name", "mask"), BITS)
def test_every_bit_is_kvms(register: type[Register], name: str, mask: int) -> None:
    assert register.FIELDS[name].mask == mask


@pytest.mark.parametrize("row", LAYOUT, ids=lambda row: row.name)
def test_a_field_is_its_bytes_and_nothing_else(row: Field) -> None:
    vmcb = Vmcb()
    value = int.from_bytes(bytes(range(1, row.size + 1)), "little")
    vmcb.store(row.name, value)
    page = bytearray(PAGE)
    page[row.offset : row.offset + row.size] = value.to_bytes(row.size, "little")
    assert vmcb.to_bytes() == bytes(page)
    assert getattr(vmcb, row.name) == value


@pytest.mark.parametrize("row", LAYOUT, ids=lambda row: row.name)
def test_setting_a_field_clears_its_clean_bit_and_no_other(row: Field) -> None:
    if row.name == "clean":
        return
    vmcb = Vmcb()
    vmcb.clean = Clean(0xFFF)
    setattr(vmcb, row.name, 1)
    assert vmcb.clean == 0xFFF & ~(Clean.FIELDS[row.clean].mask if row.clean else 0)


def test_clean_bits_cover_what_the_manual_says() -> None:
    for name, (bit, fields) in CLEAN.items():
        assert Clean.FIELDS[name].mask == 1 << bit
        assert {FIELDS[field].clean for field in fields} == {name}
    assert {FIELDS[field].clean for field in NEVER_CACHED} == {None}


def test_the_processor_writes_without_touching_clean_bits() -> None:
    vmcb = Vmcb()
    vmcb.clean = Clean(0xFFF)
    vmcb.store("int_ctl", 1)
    assert vmcb.clean == 0xFFF


Act = Callable[[Vmcb], object]
MISSPELT: list[tuple[Act, str]] = [
    (lambda v: v.int_ctrl, "Vmcb has no field 'int_ctrl'; did you mean 'int_ctl'?"),
    (lambda v: setattr(v, "event_injj", 1), "Vmcb has no field 'event_injj'; did you mean 'event_inj'?"),
    (lambda v: v.int_ctl.v_nmi, "IntCtl has no field 'v_nmi'; did you mean "),
    (lambda v: v.int_ctl.replace(v_nmi_pendin=1), "IntCtl has no field 'v_nmi_pendin'; did you mean 'v_nmi_pending'?"),
    (lambda v: v.update("int_ctl", v_girf=1), "IntCtl has no field 'v_girf'; did you mean 'v_gif'?"),
    (lambda v: v.intercept("irett"), "Vmcb has no intercept 'irett'; did you mean 'iret'?"),
    (lambda v: v.zzzzzzzzzzzz, "Vmcb has no field 'zzzzzzzzzzzz'; known: intercept_cr, "),
]


@pytest.mark.parametrize(("act", "said"), MISSPELT, ids=[said for _act, said in MISSPELT])
def test_a_misspelt_name_gets_the_nearest(act: Act, said: str) -> None:
    with pytest.raises(AttributeError) as error:
        act(Vmcb())
    assert str(error.value).startswith(said)


TOO_BIG: list[tuple[Act, str]] = [
    (lambda v: setattr(v, "cpl", 256), "cpl is 1 bytes wide; 0x100 does not fit"),
    (lambda v: setattr(v, "int_ctl", -1), "int_ctl is 4 bytes wide; -0x1 does not fit"),
    (lambda v: setattr(v, "rip", 1 << 64), "rip is 8 bytes wide; 0x10000000000000000 does not fit"),
    (lambda v: v.update("int_ctl", v_tpr=256), "V_TPR is 8 bit(s) wide and must be 0 to 255, not 256"),
    (lambda v: v.update("int_ctl", v_irq=2), "V_IRQ is 1 bit(s) wide and must be 0 to 1, not 2"),
]


@pytest.mark.parametrize(("act", "said"), TOO_BIG, ids=[said for _act, said in TOO_BIG])
def test_what_does_not_fit_is_refused_and_changes_nothing(act: Act, said: str) -> None:
    vmcb = Vmcb()
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the whole text is compared
        act(vmcb)
    assert str(error.value) == said
    assert vmcb.to_bytes() == bytes(PAGE)


def test_the_dump_shows_what_is_set() -> None:
    vmcb = Vmcb()
    vmcb.intercept("nmi")
    vmcb.intercept("exc_14")
    vmcb.update("int_ctl", v_nmi_enable=1, v_nmi_pending=1)
    vmcb.event_inj = EventInj(0x80000200)
    vmcb.rip = Register(0x300000)
    assert vmcb.dump().splitlines() == [
        "008h intercept_exceptions 0x00004000  exc_14=1",
        "00ch intercept_3          0x00000002  nmi=1",
        "060h int_ctl              0x04000800  v_nmi_pending=1 v_nmi_enable=1",
        "0a8h event_inj            0x0000000080000200  type=2 valid=1",
        "578h rip                  0x0000000000300000",
    ]


def test_an_intercept_is_switched_off_again() -> None:
    vmcb = Vmcb()
    vmcb.intercept("stgi")
    vmcb.intercept("stgi", on=False)
    assert vmcb.dump() == ""


def test_a_difference_names_bits() -> None:
    old, new = Vmcb(), Vmcb()
    new.update("int_ctl", v_nmi_pending=1, v_tpr=7)
    new.rip = Register(5)
    new.memory.write(0x3A0, 1, 9)
    new.memory.write(0x061, 1, 0x8C)  # bits 10 and 15 of int_ctl have no name
    assert diff(old.to_bytes(), new.to_bytes()) == (
        Difference("int_ctl.v_tpr", 0, 7),
        Difference("int_ctl.v_nmi_pending", 0, 1),
        Difference("int_ctl", 0, 0x8C07),
        Difference("rip", 0, 5),
        Difference("byte_3a0h", 0, 9),
    )


pages = st.builds(
    lambda writes: b"".join(bytes([dict(writes).get(i, 0)]) for i in range(PAGE)),
    st.lists(st.tuples(st.integers(0, PAGE - 1), st.integers(1, 255)), max_size=6),
)


@given(pages, pages)
def test_a_difference_is_empty_exactly_when_the_pages_are_equal(old: bytes, new: bytes) -> None:
    assert (diff(old, new) == ()) == (old == new)


@given(pages, pages)
def test_a_difference_names_each_field_that_differs_and_no_other(old: bytes, new: bytes) -> None:
    rows = [(row.name, slice(row.offset, row.offset + row.size)) for row in LAYOUT]
    covered = {byte for row in LAYOUT for byte in range(row.offset, row.offset + row.size)}
    outside = [f"byte_{i:03x}h" for i in range(PAGE) if i not in covered and old[i] != new[i]]
    named = list(dict.fromkeys(change.field.split(".")[0] for change in diff(old, new)))
    assert named == [name for name, span in rows if old[span] != new[span]] + outside


@given(pages, st.lists(st.sampled_from(list(FIELDS)), min_size=2, unique=True))
def test_fields_read_at_once_are_those_read_one_by_one(page: bytes, names: list[str]) -> None:
    vmcb = Vmcb()
    vmcb.memory.write_bytes(0, page)
    assert reader(*names)(page) == tuple(int(getattr(vmcb, name)) for name in names)


@given(st.sampled_from(sorted(IntCtl.FIELDS)), st.integers(0, 0xFFFFFFFF), st.data())
def test_replace_changes_only_its_field(name: str, value: int, data: st.DataObject) -> None:
    bits = IntCtl.FIELDS[name]
    new = data.draw(st.integers(0, (1 << bits.width) - 1))
    changed = IntCtl(value).replace(**{name: new})
    assert getattr(changed, name) == new
    assert changed & ~bits.mask == value & ~bits.mask


def test_fields_that_share_a_bit_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Bad\.b overlaps another field"):
        type("Bad", (Register,), {"FIELDS": {"a": Bits(0, 2), "b": Bits(1)}})


def test_a_register_shows_its_named_bits() -> None:
    assert repr(IntCtl(0x0C)) == "IntCtl(0xc: v_tpr=12)"
    assert repr(IntCtl(0)) == "IntCtl(0x0)"
