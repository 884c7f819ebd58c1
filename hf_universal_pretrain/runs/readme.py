"""Cards (README.md) that may be written again and again without losing what people wrote into them."""

import hashlib
import html
import json
import logging
import os
import re
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import CardData, RepoCard

from hf_universal_pretrain.errors import first_line
from hf_universal_pretrain.reading import check_is_file


logger = logging.getLogger(__name__)

LARGEST = 1_000_000  # bytes; a card has some thousands

TEMPLATES = Path(__file__).parent / "templates"
# Our part of a card: the metadata (in YAML comments) and the text (in HTML comments), each with a digest of itself.
METADATA = ("# hf_universal_pretrain: begin", "# hf_universal_pretrain: end")
TEXT = ("<!-- hf_universal_pretrain: begin", "<!-- hf_universal_pretrain: end -->")
_BLOCKS = {
    "metadata": re.compile(rf"^{METADATA[0]} (\w*)\n(.*?)^{METADATA[1]}$", re.DOTALL | re.MULTILINE),
    "text": re.compile(rf"^{TEXT[0]} (\w*) -->\n(.*){TEXT[1]}$", re.DOTALL | re.MULTILINE),
}


def render_card(data: CardData, template: str, **variables: Any) -> str:
    """Fills a template of this package. It gets, beside `variables`, `begin` and `end` (the lines around our text),
    `version` and `citation` (BibTeX of the paper and of this software); and, for names and paths, which may hold
    anything, `shell` (a word of a command line), `literal` (a string in Python) and `plain` (a line of Markdown, in
    backticks or not)."""
    card = RepoCard.from_template(
        data,
        template_path=str(TEMPLATES / template),
        begin=f"{TEXT[0]}  -->",
        end=TEXT[1],
        shell=shlex.quote,
        literal=json.dumps,
        plain=_plain,
        version=version("hf_universal_pretrain"),
        citation=(TEMPLATES / "citation.bib").read_text().strip().replace("VERSION", version("hf_universal_pretrain")),
        **variables,
    )
    metadata, body = str(card).removeprefix("---\n").split("---\n", 1)
    body = re.sub(r"\n{3,}", "\n\n", body)  # what the template's conditions leave
    text = _ours("text", body).group(2)
    body = body.replace(f"{TEXT[0]}  -->", f"{TEXT[0]} {_digest(text)} -->", 1)
    return f"---\n{METADATA[0]} {_digest(metadata)}\n{metadata}{METADATA[1]}\n---\n{body}"


def write_card(folder: str | Path, fresh: str, published: str | None = None) -> None:
    """Writes `README.md` into a folder.

    Of a card that is there already, only what stands between this package's markers is rewritten, and that only as
    long as nobody has edited it there; a README without them, or that is no text, is left as it is.

    Args:
        folder: of the model or data set.
        fresh: the card as it would be if there were none, from `render_card`.
        published: the README that the Hub has, which may have been edited there. It is taken for the old one, unless
            the one in the folder has been edited too.
    """
    path = Path(folder) / "README.md"
    try:
        old = _read_card(path)
    except (OSError, ValueError) as error:
        logger.warning(f"{path} is no card ({first_line(error)}): it is left as it is, and no card is written.")
        return
    if published is not None and (old is None or _others_text(old) == _others_text(fresh)):
        old = published
    path.write_text(fresh if old is None else _refresh(old, fresh), encoding="utf-8")


def _read_card(path: Path) -> str | None:
    """A card that is there, if one is.

    Raises:
        OSError, ValueError: if it is something that nobody would write for a card.
    """
    if not os.path.lexists(path):
        return None
    check_is_file(path)
    if path.stat().st_size > LARGEST:
        raise ValueError(f"it has more than {LARGEST:,} bytes")
    return path.read_text(encoding="utf-8")


def _plain(name: str) -> str:
    return html.escape(" ".join(name.split()), quote=False).replace("`", "'").replace("|", "&#124;")


def yaml_lines(settings: dict[str, Any]) -> str:
    """YAML, a setting a line, lists too."""
    values = {key: yaml.safe_dump(value, default_flow_style=True, width=1000) for key, value in settings.items()}
    return "".join(f"{key}: {value.splitlines()[0]}\n" for key, value in values.items())


def _refresh(old: str, fresh: str) -> str:
    """`old` with our blocks as they are in `fresh`."""
    for name, block in _BLOCKS.items():
        found, ours = block.search(old), _ours(name, fresh).group(0)
        if found is None or found.group(1) != _digest(found.group(2)):
            logger.warning(f"The {name} of README.md has been edited by hand and is left as it is.")
        else:
            old = old[: found.start()] + ours + old[found.end() :]
    return old


def _ours(name: str, card: str) -> re.Match[str]:
    """A block of a card that this package has just made."""
    found = _BLOCKS[name].search(card)
    assert found is not None, "the template has both blocks"
    return found


def _others_text(card: str) -> str:
    for block in _BLOCKS.values():
        card = block.sub("", card)
    return card


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def duration(seconds: float) -> str:
    """Seconds in words: `"40 seconds"`, `"12 minutes"`, `"3.5 hours"`."""
    if seconds < 100:
        return f"{seconds:.0f} seconds"
    if seconds < 6000:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
