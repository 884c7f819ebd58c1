"""Secrets are told by their form and by the names before them, and nothing else is hidden."""

import pytest

from hf_universal_pretrain.masking import is_secret, mask, mask_command, mask_values, mask_words


TOKEN = "hf_" + "aB3" * 12


@pytest.mark.parametrize(
    "name",
    ["hub_token", "--hub_token", "--hub-token", "--hub_tokn", "--hub_toke", "--hubtoken", "--hub_tokens", "HF_TOKEN",
     "token", "push_to_hub_token", "WANDB_API_KEY", "--password", "client_secret", "HUGGING_FACE_HUB_TOKEN"],
)  # fmt: skip
def test_names_of_secrets_also_mistyped(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name",
    ["tokens", "--tokens", "tokenizer", "hub_model_id", "hub_strategy", "push_to_hub", "eos_token_id", "max_tokens",
     "synthetic_tokens", "pad_token_id", "include_num_input_tokens_seen", "hub_revision", "metric_for_best_model"],
)  # fmt: skip
def test_names_of_other_things(name: str) -> None:
    assert not is_secret(name)


@pytest.mark.parametrize(
    "words, shown",
    [
        (["run", "--hub_token", "abc", "--seed", "1"], "run --hub_token '***' --seed 1"),
        (["run", "--hub_tokn=abc", "x"], "run '--hub_tokn=***' x"),
        (["sudo", "HF_TOKEN=abc", "python", "p.py"], "sudo 'HF_TOKEN=***' python p.py"),
        (["run", "--note", f"see {TOKEN}."], "run --note 'see ***.'"),
        (["run", "--up", '{"hub_token": "abc", "seed": 1}'], """run --up '{"hub_token": "***", "seed": 1}'"""),
        (["run", "--hub_token", "--seed", "1"], "run --hub_token --seed 1"),
        (["run", "--tokens", "printable", "--tokenizer=byte"], "run --tokens printable --tokenizer=byte"),
        (["run", "--machines=lstm=0.5,gru=0.5"], "run --machines=lstm=0.5,gru=0.5"),
    ],
)  # fmt: skip
def test_command_lines(words: list[str], shown: str) -> None:
    assert mask_command(words) == shown


@pytest.mark.parametrize(
    "text, shown",
    [
        ("not used: ['--hub_tokn', 'abc']", "not used: ['--hub_tokn', '***']"),
        ("unrecognized arguments: --hub_tokn abc --x", "unrecognized arguments: --hub_tokn *** --x"),
        ("hub_token: abc\nseed: 1", "hub_token: ***\nseed: 1"),
        ("unknown key 'hub_tokn'; did you mean 'hub_token'?", "unknown key 'hub_tokn'; did you mean 'hub_token'?"),
        ("--hub_token: the Hub refuses the token (401)", "--hub_token: the Hub refuses the token (401)"),
        ("--hub_token: it needs a token: log in", "--hub_token: it needs a token: log in"),
        ('{"token": "abc"}', '{"token": "***"}'),
        (f"https://user:{TOKEN}@huggingface.co", "https://user:***@huggingface.co"),
        ("hf_universal_pretrain and hf_hub_download", "hf_universal_pretrain and hf_hub_download"),
    ],
)
def test_messages(text: str, shown: str) -> None:
    assert mask(text) == shown


def test_the_token_in_use_is_hidden_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "an-odd-token")
    assert mask("Authorization: Bearer an-odd-token") == "Authorization: Bearer ***"
    assert mask_words(["--x", "an-odd-token"]) == ["--x", "***"]


def test_nested_settings() -> None:
    settings = {"arms": {"up": {"pretrain": {"hub_token": "abc", "seed": 1}}}, "flags": ["--seed", TOKEN], "n": 3}
    assert mask_values(settings) == {
        "arms": {"up": {"pretrain": {"hub_token": "***", "seed": 1}}}, "flags": ["--seed", "***"], "n": 3,
    }  # fmt: skip
    assert mask_values({"hub_token": None}) == {"hub_token": None}
