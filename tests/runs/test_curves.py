from pathlib import Path

import pytest
from matplotlib.figure import Figure

from hf_universal_pretrain.runs.comparison import Run, plot_comparison, verdict
from hf_universal_pretrain.runs.curves import plot_runs
from hf_universal_pretrain.runs.history import read_history


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list:
    """The figures that are written."""
    figures, save = [], Figure.savefig

    def keep(figure: Figure, *args, **kwargs) -> None:
        figures.append(figure)
        save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_a_folder_that_holds_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"--compare_with: {tmp_path} is not the folder of a run"):
        read_history(tmp_path)


def test_bits_are_drawn_against_synthetic_tokens_with_baselines_as_dashed_lines(drawn: list, tmp_path: Path) -> None:
    history = [{"step": 0, "eval_english_bits_per_byte": 8.0, "eval_english_ci95": 0.1}]
    history += [{"step": 10, "bits_per_token": 7.0}, {"step": 10, "eval_english_bits_per_byte": 6.0}]
    history += [{"step": 10, "eval_probe_sort_bits_per_symbol": 5.0, "eval_probe_sort_accuracy": 0.5}]
    baselines = {"english": {"uniform": 8.0, "KT": 4.7, "best": 4.6}}
    plot_runs({"run": history}, baselines, tmp_path / "curves.png", tokens_per_step=2048)
    loss, english, probes = drawn[0].axes
    assert [axis.get_title() for axis in drawn[0].axes] == ["Training loss", "english", "probes"]
    curve, *dashed = english.lines
    assert list(curve.get_xdata()) == [0, 20480] and list(curve.get_ydata()) == [8.0, 6.0]
    assert [line.get_ydata()[0] for line in dashed] == [8.0, 4.7, 4.6]
    assert {line.get_linestyle() for line in dashed} == {"--"} and english.get_xlabel() == "synthetic tokens"
    assert list(probes.lines[0].get_ydata()) == [5.0] and loss.get_ylabel() == "bits per token"
    assert (tmp_path / "curves.png").stat().st_size > 5000

    plot_runs({"a": history, "b": history}, baselines, tmp_path / "curves.png")
    assert list(drawn[1].axes[1].lines[1].get_xdata()) == [0, 10] and drawn[1].axes[1].get_xlabel() == "step"


def test_a_comparison_counts_what_went_before(drawn: list, tmp_path: Path) -> None:
    runs = {"scratch": {0: Run([(0, 8.0), (10, 3.0)], 2.0)}, "up": {0: Run([(0, 6.0), (10, 2.5)], 2.0, 100, 300.0)}}
    plot_comparison(runs, tmp_path / "c.png")
    thin = [[list(line.get_xdata()) for line in axis.lines if line.get_linewidth() < 1] for axis in drawn[0].axes]
    assert thin == [[[0, 10], [0, 10]], [[0, 10], [100, 110]], [[0, 20], [300, 320]]]
    ends = [list(line.get_ydata()) for line in drawn[0].axes[0].lines if line.get_linestyle() == "--"]
    assert ends == [[3.0, 3.0]], "a dashed line where scratch ends"
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["86% of the text"], "3.0 lies 6/7 of the way"
    assert "with 86% of its real text" in verdict("up", runs["up"], "scratch", runs["scratch"]), "as the sentence says"
    assert (tmp_path / "c.png").stat().st_size > 5000


def test_many_arms_are_told_apart_by_their_means(drawn: list, tmp_path: Path) -> None:
    arms = {f"arm{number}": {seed: Run([(0, 8.0), (10, 3.0 + seed)], 2.0) for seed in (0, 2)} for number in range(23)}
    plot_comparison({"scratch": {0: Run([(0, 8.0), (10, 5.0)], 2.0)}, **arms}, tmp_path / "c.png")
    *curves, end = drawn[0].axes[0].lines
    assert len(curves) == 24 and all(list(line.get_ydata()) == [8.0, 4.0] for line in curves[1:])
    assert len({(line.get_color(), line.get_linestyle()) for line in curves}) == 24
    assert list(end.get_ydata()) == [5.0, 5.0] and not drawn[0].axes[0].texts
    (legend,) = [*drawn[0].legends, *(axis.legend_ for axis in drawn[0].axes if axis.legend_)]
    assert not any(legend.get_window_extent().overlaps(axis.bbox) for axis in drawn[0].axes), "it hides no curve"
    assert drawn[0].bbox.contains(*legend.get_window_extent().min), "all of it is in the picture"


def test_the_shares_of_two_arms_that_cross_together_can_both_be_read(drawn: list, tmp_path: Path) -> None:
    arms = {name: {0: Run([(0, 6.0), (10, end)], 2.0)} for name, end in (("one", 2.5), ("two", 2.4))}
    plot_comparison({"scratch": {0: Run([(0, 8.0), (10, 3.0)], 2.0)}, **arms}, tmp_path / "c.png")
    first, second = drawn[0].axes[0].texts
    assert (first.get_text(), second.get_text()) == ("86% of the text", "83% of the text")
    assert not first.get_window_extent().overlaps(second.get_window_extent())
