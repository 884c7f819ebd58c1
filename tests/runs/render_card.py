"""Shows a card as a web page would: markdown to HTML, HTML to a PNG by a headless Chromium.

    python -m tests.runs.render_card out/quickstart card.png

A tool for looking at cards, not a test. Needs `pip install markdown-it-py` and `apt-get install chromium`.
"""

import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

from huggingface_hub import ModelCard
from markdown_it import MarkdownIt


STYLE = """
body { font: 16px/1.55 "DejaVu Sans", sans-serif; max-width: 860px; margin: 24px auto; padding: 0 24px;
color: #1f2937; }
h1, h2 { border-bottom: 1px solid #e5e7eb; padding-bottom: 4px; } img { max-width: 100%; }
pre { background: #f3f4f6; padding: 12px 16px; border-radius: 8px; overflow-x: auto; font-size: 13px;
line-height: 1.45; }
code { font-family: "DejaVu Sans Mono", monospace; font-size: 87%; background: #f3f4f6; padding: 1px 4px; }
pre code { background: none; padding: 0; font-size: 100%; } th, td { border: 1px solid #e5e7eb; padding: 4px 12px; }
table { border-collapse: collapse; } .chip { display: inline-block; border: 1px solid #d1d5db; border-radius: 12px;
padding: 1px 10px; margin: 2px 4px 2px 0; font-size: 13px; background: #fff; }
"""


def page(folder: Path) -> str:
    """The card of a folder as HTML, with its metadata as chips above it, as the Hub has them."""
    card = ModelCard.load(folder / "README.md")
    chips = [card.data.get(key) for key in ("pipeline_tag", "library_name", "license", "base_model")]
    chips = [str(chip) for chip in [*chips, *(card.data.get("tags") or [])] if chip]
    for model in card.data.get("eval_results") or []:
        chips.append(f"{model.dataset_type}, {model.metric_name}: {model.metric_value:.3f}")
    metadata = "".join(f'<span class="chip">{escape(chip)}</span>' for chip in chips)
    body = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.text)
    base = folder.resolve().as_uri()
    return f'<meta charset="utf-8"><base href="{base}/"><style>{STYLE}</style>{metadata}{body}'


def main() -> None:
    folder, picture = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
    height = sys.argv[3] if len(sys.argv) > 3 else "3600"
    with tempfile.TemporaryDirectory() as scratch:
        html = Path(scratch) / "card.html"
        html.write_text(page(folder), encoding="utf-8")
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size=960,{height}"]
        subprocess.run(["chromium", *flags, f"--screenshot={picture}", html.as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
