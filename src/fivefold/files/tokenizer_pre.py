"""How BPE vocabularies cut text into words before merging: one row per `tokenizer.ggml.pre`.

A GGUF file only names its rule. Each expression of a rule cuts the pieces that the one before left: matches
become pieces, and so does what stands between them. All names that llama.cpp knows have a row, and a
row does what llama.cpp does. That is not always what the model was trained with: against their
tokenizer.json, gpt-4o, granite-embed-multi-97m and tekken then differ on letters and marks beyond ASCII,
tiny_aya, youtu and kimi-k2 on any change of case, afmoe and tiny_aya on spaces before numbers. A model
in a Hugging Face folder is cut as its tokenizer.json says. Characters that came with Unicode 16 are
known here and not yet there.

llama.cpp's clean_spaces is left out: it changes text when the text after it is known, and text is shown
before that.

Source: src/llama-vocab.cpp and src/unicode.cpp of llama.cpp (ggml 0.25.3).
"""

from __future__ import annotations

from dataclasses import dataclass

from fivefold.files import tokenizer_patterns as cut


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One rule.

    patterns        regular expressions in Oniguruma's syntax, applied one after the other.
    whole_words     a piece that is a token as it stands is not built from merges ("ignore_merges").
    add_bos         what the family does when the file does not say.
    always_bos      texts begin with `bos` whatever the file says.
    byte_level      bytes are written as characters, else tokens hold characters as they are.
    marks_spaces    a space is written as ▁.
    whole_line_ends a run of line ends that is a token as it stands is not built from merges.
    drops_spaces    white space separates words and is not written.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False
    always_bos: bool = False
    byte_level: bool = True
    marks_spaces: bool = False
    whole_line_ends: bool = False
    drops_spaces: bool = False


_LINES = r"[^\n]+|[\n]+"

_FAMILIES: tuple[tuple[PreTokenizer, str], ...] = (
    (
        PreTokenizer((r"\p{N}", cut.GPT_2)),
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    ),
    (
        PreTokenizer((cut.GPT_2,)),
        "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe gigachat "
        "a.x-4.0 mellum modern-bert mpt olmo jais trillion granite-docling exaone4",
    ),
    (
        PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", cut.GPT_2, r"\p{N}+", "[0-9][0-9][0-9]")),
        "default",
    ),
    (PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", cut.GPT_2, "[0-9][0-9][0-9]")), "falcon"),
    (
        PreTokenizer((cut.LLAMA_3,), whole_words=True, add_bos=True),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (PreTokenizer((cut.LLAMA_3,)), "dbrx smaug-bpe chatglm-bpe"),
    (PreTokenizer((cut.LLAMA_3,), whole_words=True), "glm4 glm5"),
    (
        PreTokenizer((cut.QWEN_2,)),
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
    ),
    (
        PreTokenizer(
            (
                rf"{cut.ENDINGS}|{cut.LEAD}[\p{{L}}\p{{M}}]+|\p{{N}}"
                rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{cut.SPACES}",
            )
        ),
        "qwen35",
    ),
    (PreTokenizer((rf"{cut.WORD}|\p{{N}}|{cut.SIGNS}|{cut.SPACES}",)), "ufakzeka"),
    (PreTokenizer((_LINES, cut.QWEN_2)), "laguna"),
    (
        PreTokenizer(
            (r"\p{N}{1,3}", rf"{cut.ENDINGS}|{cut.WORD}|\p{{N}}+|{cut.SIGNS}|{cut.SPACES}"), whole_words=True
        ),
        "minicpm5",
    ),
    (
        PreTokenizer(
            (
                rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{cut.WORD}|\p{{N}}|{cut.SIGNS}"
                r"|\s*[\r\n]|\s+(?!\S)|\s+",
            )
        ),
        "bailingmoe bailingmoe2 llada-moe",
    ),
    (
        PreTokenizer((rf"{cut.ENDINGS}|{cut.WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{cut.SPACES}",)),
        "seed-coder",
    ),
    (
        PreTokenizer(
            (
                rf"{cut.ENDINGS}|{cut.LEAD}(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
            )
        ),
        "exaone-moe",
    ),
    (
        PreTokenizer(
            (
                rf"{cut.ENDINGS}|{cut.WORD}|\p{{N}}{{1,3}}|{cut.SIGNS}|\s*[\r\n]+"
                rf"|{cut.JAIS_SPACES}|\s",
            )
        ),
        "jais-2",
    ),
    (PreTokenizer((cut.GPT_4O,)), "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (PreTokenizer((cut.GRANITE_MULTILINGUAL,), whole_words=True), "granite-embed-multi-97m"),
    (
        PreTokenizer(
            (
                *cut.DIGIT_GROUPS,
                rf"{cut.MARKED_WORD}|\p{{N}}{{1,3}}|{cut.SLASHED_SIGNS}|{cut.SPACES}",
            )
        ),
        "tiny_aya cohere2moe",
    ),
    (PreTokenizer((cut.TEKKEN,), whole_words=True, add_bos=True), "tekken"),
    (
        PreTokenizer(
            (cut.YOUTU_SCRIPTS, rf"{cut.MARKED_WORD}|\p{{N}}|{cut.SLASHED_SIGNS}|{cut.SPACES}"),
            whole_words=True,
        ),
        "youtu",
    ),
    (PreTokenizer((cut.KIMI,)), "kimi-k2"),
    (
        PreTokenizer((r"\p{N}{1,3}", cut.HAN_KANA, cut.DEEPSEEK_3)),
        "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    ),
    (PreTokenizer((r"\p{N}{1,3}", cut.HAN_KANA, cut.SPARK, r"\p{N}")), "spark2_5"),
    (PreTokenizer((*cut.DIGIT_GROUPS, cut.ASIAN_SCRIPTS, cut.DEEPSEEK_3)), "afmoe"),
    (
        PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", cut.HAN_HANGUL, r"\p{N}")),
        "deepseek-coder",
    ),
    (
        PreTokenizer(
            (
                r"[\r\n]",
                cut.DEEPSEEK_LLM_LETTERS,
                r"\s?[!-/:-~！-／：-～‘-‟、-。]+",
                r"(?<!\s)\s+\z",
                cut.HAN_HANGUL,
                r"\p{N}+",
            )
        ),
        "deepseek-llm",
    ),
    (PreTokenizer(cut.SUPERBPE), "superbpe"),
    (PreTokenizer((cut.BLOOM,)), "poro-chat bloom gpt3-finnish"),
    (PreTokenizer((cut.BLOOM, r"\p{N}")), "viking"),
    (PreTokenizer(cut.CHAMELEON, add_bos=True), "chameleon"),
    (
        PreTokenizer((_LINES,), always_bos=True, byte_level=False, marks_spaces=True, whole_line_ends=True),
        "gemma4 granite-embed-multi-311m",
    ),
    (PreTokenizer((_LINES,), byte_level=False, marks_spaces=True), "sarvam-moe"),
    (PreTokenizer((r"\S+",), byte_level=False), "whitespace"),
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {name: rule for rule, names in _FAMILIES for name in names.split()}
"""Rules by the name that stands under `tokenizer.ggml.pre`."""
