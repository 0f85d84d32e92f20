"""wa.identity says in words how a result differs from what the study wants."""

from wa.code import Code
from wa.identity import CHECKOUT, UNKNOWN, difference, training, training_code


def entries(code: Code, **changes: object) -> dict:
    """The entries of a training whose settings are these."""
    settings = {"algorithm": "standard", "augmentation": ["crop-1"], "pretrained": ""} | changes
    return training(
        settings,
        code=training_code(code, settings),
        seed=0,
        memory="0",
        task_sizes=[2],
        classes=["a", "b"],
        data="d",
        model="m",
        ranking=None,
        pretrained=None,
    )


def test_a_setting_is_named_before_the_code_that_it_reaches():
    code = Code(CHECKOUT)
    have, want = entries(code), entries(code, augmentation=["crop-1", "flip"])
    assert have["code"] != want["code"]
    said = 'settings: augmentation was ["crop-1"], is ["crop-1", "flip"]'
    assert difference(have, want) == said
    assert difference(have | {"from_model": "another"}, want) == said
    assert difference(have | {"from_model": UNKNOWN}, want) == said


def test_the_code_is_named_before_what_a_result_was_made_from():
    have = {"from_trained": "a", "code": "b", "memory": "20"}
    want = {"from_trained": "c", "code": "d", "memory": "20"}
    assert difference(have, want) == "the code that makes it was changed"
    assert difference(have, want | {"code": "b"}) == "it was made from another trained"
    assert difference(have, have) == "" and difference(have, have | {"code": UNKNOWN}) is None
