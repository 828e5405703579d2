"""The pages of a report as Jinja makes them, with words in two languages: the reader sees one."""

from __future__ import annotations

import base64
import io
import json
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

WORDS = {
    "rayedit report": "rayedit 报告",
    "rows": "行",
    "ok": "成功",
    "failed": "失败",
    "images": "图片",
    "images/s": "张/秒",
    "samples a step": "每步样本数",
    "Failed rows": "失败的行",
    "Failed rows by code": "失败的行，按错误代码",
    "Edited rows by warning": "有警告的行",
    "What the edits changed": "修改了多少",
    "What was measured": "测得的数值",
    "Images/s over time": "速度（张/秒）随时间的变化",
    "Before and after": "修改前后",
    "Slowest rows": "最慢的行",
    "Settings and versions": "设置与版本",
    "source": "原图",
    "image": "图片",
    "code": "错误代码",
    "message": "说明",
    "back to the report": "返回报告",
    "previous": "上一页",
    "next": "下一页",
    "held by the manifest": "图片在清单里",
}
SENTENCES = {
    "style": (
        "Style {style}: how alike its {images} images came out",
        "风格 {style}：{images} 张图片有多一致",
    ),
    "style_spread": (
        "How far an image lies from the median one (the median of these distances), by what the "
        "edit moved and by the result alone: colours {lab.shift:.1f} and {lab.result:.1f} of "
        "L*a*b*, along the sides {border.shift:.1f} and {border.result:.1f}; texture "
        "{texture.shift:.3f} and {texture.result:.3f} of the pixels.",
        "各图到中位数的距离（取中位数），分别按改动量和成图：颜色 {lab.shift:.1f} 和 "
        "{lab.result:.1f}（L*a*b*），四边 {border.shift:.1f} 和 {border.result:.1f}；"
        "纹理 {texture.shift:.3f} 和 {texture.result:.3f}（像素占比）。",
    ),
    "locked": ("Locked:", "锁定："),
    "differing": ("Different from row to row:", "各行不同："),
    "outliers": (
        "Farthest from the others, and how many times the spread:",
        "离其他图片最远的，以及是上述距离的几倍：",
    ),
    "run": (
        "The last run: {counted_rows}, {counted_images} in {editing_s:,.1f} s of editing, "
        "{images_per_s:.3g} images/s. Ray and the model took {begin_s:,.1f} s to start.",
        "最近一次运行：{rows} 行、{images} 张图片，修图用时 {editing_s:,.1f} 秒，"
        "每秒 {images_per_s:.3g} 张。在此之前，Ray 和模型启动用了 {begin_s:,.1f} 秒。",
    ),
    "failed_shown": (
        "{shown} of {count}; all of them are in ",
        "共 {count} 行，这里列出 {shown} 行；全部见 ",
    ),
    "failed_mend": (
        "Mend what is wrong, then give that file to --retry: these rows are edited again, and "
        "nothing else.",
        "改好之后，把这个文件交给 --retry：只重做这些行。",
    ),
    "changed": (
        "{share:.0f}% of a picture on average; the rest moved by {moved:.1f} of 255 levels.",
        "平均改动了画面的 {share:.0f}%；其余部分变化 {moved:.1f} 级（共 255 级）。",
    ),
    "guided": (
        "auto_guidance made {images:,} images in {mean_tries} tries on average.",
        "auto_guidance 出图 {images:,} 张，平均每张试了 {mean_tries} 次。",
    ),
    "measured": (
        "Each result beside what an edit of nothing would have given; docs/quality.md says what "
        "each measure is.",
        "每张结果与“什么都不改”的图相比；各项含义见 docs/quality.md。",
    ),
    "median": ("median {value} of {images:,} images", "{images:,} 张图的中位数 {value}"),
    "every_pair": (
        "Every pair, with its files ({count:,})",
        "全部 {count:,} 组对比，每张都链接到文件",
    ),
    "first_pairs": (
        "The first {count:,} pairs; the ledger names all",
        "前 {count:,} 组对比；其余见账本",
    ),
    "page": ("page {page} of {pages}", "第 {page} 页，共 {pages} 页"),
    "defaults": (
        "A setting that is not named is at its default.",
        "没有列出的设置为默认值。",
    ),
}


def bilingual(text: str, **values: Any) -> Markup:
    """Write a word of `WORDS`, or one of `SENTENCES`, in both languages: the page shows one."""
    english, chinese = SENTENCES.get(text) or (text, WORDS[text])
    parts = (("en", english), ("zh", chinese))
    return Markup("").join(
        Markup('<span lang="{}">{}</span>').format(language, words.format(**values))
        for language, words in parts
    )


@lru_cache
def environment() -> Environment:
    """Make the environment of the pages: what a manifest says is text in it, never markup."""
    made = Environment(
        loader=PackageLoader(__package__, ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"data_url": _data_url, "json": json.dumps}
    made.globals["t"] = bilingual
    return made


def _data_url(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
