"""The faults that are planted by hand still fit the sources; see `faults.py`."""

from tests import faults


def test_every_fault_fits_its_file_and_names_tests_that_are_there():
    rows = faults.table()
    assert [why for fault in rows if (why := fault.fits())] == []
    assert len({fault.name for fault in rows}) == len(rows) and len(rows) > 80


def test_a_planted_fault_is_noticed_and_taken_out_again(tmp_path):
    (tmp_path / "plasticity").mkdir()
    (tmp_path / "plasticity" / "one.py").write_text("def one():\n    return 1\n")
    wrong = "from plasticity.one import one\n\n\ndef test_one():\n    assert one() == 1\n"
    (tmp_path / "test_one.py").write_text(wrong)
    (tmp_path / "test_any.py").write_text(wrong.replace("== 1", "> 0"))
    fault = faults.Fault("two", "plasticity/one.py", "return 1", "return 2", "test_one.py")
    assert faults.notices(fault, "test_one.py", tmp_path) is True
    assert faults.notices(fault, "test_any.py", tmp_path) is False
    assert faults.notices(None, "test_one.py", tmp_path) is False
