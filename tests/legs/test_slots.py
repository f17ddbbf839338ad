"""A slot that is used again belongs to its new call."""

from telbridge.legs.sip.slots import Slots

OLD, NEW, THIRD = 1, 2, 3


def test_a_call_whose_slot_nobody_took_may_go() -> None:
    slots = Slots()
    slots.take(0, OLD)
    slots.take(1, NEW)
    assert slots.give_back(OLD)
    assert slots.give_back(NEW)


def test_an_old_call_waits_until_the_new_one_in_its_slot_is_over() -> None:
    slots = Slots()
    slots.take(0, OLD)
    slots.take(0, NEW)
    assert not slots.give_back(OLD)
    assert not slots.give_back(OLD), "however often it is asked"
    assert slots.give_back(NEW)
    assert slots.give_back(OLD)


def test_three_in_a_row() -> None:
    slots = Slots()
    for call in (OLD, NEW, THIRD):
        slots.take(0, call)
    assert not slots.give_back(NEW)
    assert not slots.give_back(OLD)
    assert slots.give_back(THIRD)
    assert slots.give_back(OLD)
    assert slots.give_back(NEW)


def test_who_never_had_a_slot_may_go() -> None:
    assert Slots().give_back(OLD)
