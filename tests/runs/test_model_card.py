from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from transformers import PreTrainedTokenizerFast

from hf_universal_pretrain import SyntheticUPConfig, SyntheticUPDataset, UPConfig, UPTrainer
from hf_universal_pretrain.evaluation import cut_windows
from hf_universal_pretrain.runs.model_card import write_model_card
from hf_universal_pretrain.text import interpreter_texts


@pytest.fixture
def trainer(
    tmp_path: Path, small_data: SyntheticUPConfig, tokenizer: PreTrainedTokenizerFast, make_model
) -> UPTrainer:
    args = UPConfig(
        str(tmp_path / "my-model"), max_steps=3, use_cpu=True, save_strategy="no", disable_tqdm=True,
        eval_on_start=True, learning_rate=0.0123, logging_steps=1,
    )  # fmt: skip
    trainer = UPTrainer(
        model=make_model(),
        args=args,
        train_dataset=SyntheticUPDataset(small_data, tokenizer),
        processing_class=tokenizer,
        eval_windows={"prose": cut_windows(interpreter_texts()["english"], 32, 8)},
    )
    trainer.train()
    trainer.evaluate()
    write_model_card(trainer.record())
    return trainer


def readme(trainer: UPTrainer) -> Path:
    return Path(trainer.args.output_dir) / "README.md"


def test_card_says_what_it_is_and_how_it_was_made(trainer: UPTrainer) -> None:
    card = ModelCard.load(readme(trainer))
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-generation"
    assert {"universal-pretraining", "synthetic-data", "hf_universal_pretrain"} <= set(card.data.tags)
    assert card.data.base_model is None
    text = card.text
    before, after = (e["eval_prose_bits_per_byte"] for e in trainer.state.log_history if "eval_runtime" in e)
    assert f"| prose | {before:.3f} | **{after:.3f}** | 8.000 |" in text
    for line in ("# my-model", "seen no text", "arXiv:2506.20057", "curves.png", 'from_pretrained("my-model")'):
        assert line in text
    assert f"{trainer.model.num_parameters():,} parameters" in text
    assert "](https://huggingface.co/)" not in text and "{{" not in text.replace("{{The", "")
    recipe = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert SyntheticUPConfig(**recipe) == trainer.train_dataset.config
    training = yaml.safe_load(text.split("```yaml\n")[2].split("```")[0])
    assert training["learning_rate"] == 0.0123 and training["max_steps"] == 3


def test_card_has_the_licence_that_was_given_and_no_other(trainer: UPTrainer) -> None:
    assert ModelCard.load(readme(trainer)).data.license is None
    trainer.license = "mit"
    write_model_card(trainer.record())
    assert ModelCard.load(readme(trainer)).data.license == "mit"


def test_card_is_rewritten_as_long_as_nobody_touched_it(trainer: UPTrainer) -> None:
    first = readme(trainer).read_text()
    trainer.evaluate()
    trainer.state.global_step = 1234
    write_model_card(trainer.record())
    assert readme(trainer).read_text() != first and "1,234 steps" in readme(trainer).read_text()


def test_what_a_person_wrote_around_our_text_is_kept(trainer: UPTrainer) -> None:
    readme(trainer).write_text(
        readme(trainer).read_text().replace("# my-model", "# Mine\n\nPlease read.") + "\nThanks.\n"
    )
    trainer.state.global_step = 1234
    write_model_card(trainer.record())
    text = readme(trainer).read_text()
    assert "# Mine\n\nPlease read." in text and text.endswith("\nThanks.\n") and "1,234 steps" in text


def test_edits_on_the_hub_are_kept_unless_the_folder_was_edited_too(trainer: UPTrainer) -> None:
    published = readme(trainer).read_text().replace("# my-model", "# Retitled on the Hub")
    trainer.state.global_step = 1234
    write_model_card(trainer.record(), published)
    assert "# Retitled on the Hub" in readme(trainer).read_text() and "1,234 steps" in readme(trainer).read_text()
    readme(trainer).write_text(readme(trainer).read_text() + "\nWritten here.\n")
    write_model_card(trainer.record(), published.replace("Retitled", "Renamed"))
    text = readme(trainer).read_text()
    assert "# Retitled on the Hub" in text and text.endswith("Written here.\n")


def test_a_readme_of_someone_elses_is_left_alone(trainer: UPTrainer) -> None:
    write_model_card(trainer.record(), "# Nothing of ours\n")
    assert readme(trainer).read_text() == "# Nothing of ours\n"


def test_metadata_follow_the_results_unless_they_were_edited(trainer: UPTrainer) -> None:
    def value() -> float:
        return ModelCard.load(readme(trainer)).data.eval_results[0].metric_value

    before, results = value(), ModelCard.load(readme(trainer)).data.eval_results
    assert [result.metric_type for result in results] == [
        "bits_per_byte", "bits_per_byte_whole", "bits_per_byte_last",
    ]  # fmt: skip
    assert results[0].dataset_type == "prose"
    measured = trainer.state.log_history[-1]["figures"]["texts"]["prose"]["second_half"]
    measured["bits_per_byte"] = 1.25
    write_model_card(trainer.record())
    assert value() == 1.25 != before
    readme(trainer).write_text(readme(trainer).read_text().replace("library_name:", "license: mit\nlibrary_name:"))
    measured["bits_per_byte"] = 1.0
    write_model_card(trainer.record())
    assert ModelCard.load(readme(trainer)).data.license == "mit" and value() == 1.25
    assert "**1.000**" in readme(trainer).read_text()


@pytest.mark.parametrize(
    "edit", [("seen no text", "seen no text at all"), ("<!-- hf_universal_pretrain: end -->", "")]
)
def test_a_card_edited_by_hand_is_left_alone(trainer: UPTrainer, edit: tuple[str, str], caplog) -> None:
    edited = readme(trainer).read_text().replace(*edit)
    readme(trainer).write_text(edited)
    write_model_card(trainer.record())
    assert readme(trainer).read_text() == edited and "edited by hand" in caplog.text
