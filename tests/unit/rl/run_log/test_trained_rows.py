"""What a supervised run has learned from stays on record when the run goes on."""

from pathlib import Path

from rl.run_log.trained_rows import TrainedRowsLog
from rl.storage.jsonl import read_lines


def test_a_record_of_an_earlier_name_goes_on_under_the_new_one(tmp_path: Path) -> None:
    (tmp_path / "seen.jsonl").write_text('{"step": 0, "rows": [4]}\n{"step": 1, "rows": [5]}\n')
    log = TrainedRowsLog(tmp_path, first=1)
    log.write(1, [6])
    log.close()
    lines = list(read_lines(tmp_path / "trained_rows.jsonl"))
    assert lines == [{"step": 0, "rows": [4]}, {"step": 1, "rows": [6]}]
    assert not (tmp_path / "seen.jsonl").exists()
