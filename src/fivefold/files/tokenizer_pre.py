"""How byte-level BPE vocabularies cut text into words before merging: one row per `tokenizer.ggml.pre`.

A GGUF file only names its rule; the regular expressions behind the names are facts of the format.
Each expression cuts the pieces that the one before left: matches become pieces, and so does what
stands between them. Where llama.cpp approximates an expression, because its regex engine knows no letter
cases or takes all white space for one, this table has the original that the model was trained with:
gpt-4o, granite-embed-multi-97m and tekken then differ on letters and marks beyond ASCII, tiny_aya, youtu
and kimi-k2 on any change of case, deepseek-coder on wide spaces.

No row, so refused by name: gemma4, granite-embed-multi-311m, sarvam-moe, whitespace (not byte-level),
afmoe, chameleon, deepseek-llm, superbpe (not written down yet), and everything unknown.

Sources: src/llama-vocab.cpp of llama.cpp (ggml 0.25.3) and the tokenizer.json of the models.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One rule.

    patterns       regular expressions in Oniguruma's syntax, applied one after the other.
    whole_words    a piece that is a token as it stands is not built from merges ("ignore_merges").
    add_bos        what the family does when the file does not say.
    """

    patterns: tuple[str, ...]
    whole_words: bool = False
    add_bos: bool = False


_ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_WORD = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA_3 = rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
_QWEN_2 = rf"{_ENDINGS}|{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}"
_UPPER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}"
_LOWER = r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
_CASED_START = rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+"
_CASED_REST = rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*"
_SLASHED_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
_GPT_4O = rf"{_CASED_START}{_ENDINGS}?|{_CASED_REST}{_ENDINGS}?|\p{{N}}{{1,3}}|{_SLASHED_SIGNS}|{_SPACES}"
_NOT_HAN = r"&&[^\p{Han}]"
_KIMI = (
    rf"\p{{Han}}+|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}{_NOT_HAN}]*[{_LOWER}{_NOT_HAN}]+{_ENDINGS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}{_NOT_HAN}]+[{_LOWER}{_NOT_HAN}]*{_ENDINGS}?"
    rf"|\p{{N}}{{1,3}}|{_SIGNS}|{_SPACES}"
)
_ASCII_SIGN_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_DEEPSEEK_WORD = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
_DEEPSEEK_3 = rf"{_ASCII_SIGN_WORD}|{_DEEPSEEK_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}"
_SPARK = rf"{_ASCII_SIGN_WORD}|{_DEEPSEEK_WORD}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+"
_HAN_KANA = "[一-龥぀-ゟ゠-ヿ]+"
_BLOOM = " ?[^(\\s|.,!?…。，、।۔،)]+"
_JAIS_SPACES = "|".join(rf"\s{{{width}}}(?!\S)" for width in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))

_FAMILIES: tuple[tuple[PreTokenizer, str], ...] = (
    (
        PreTokenizer((r"\p{N}", _GPT_2)),
        "smollm starcoder refact command-r codeshell exaone minerva-7b mellum2",
    ),
    (
        PreTokenizer((_GPT_2,)),
        "gpt-2 phi-2 jina-es jina-de jina-v2-es jina-v2-de jina-v1-en jina-v2-code roberta-bpe gigachat "
        "a.x-4.0 mellum modern-bert mpt olmo jais trillion granite-docling exaone4",
    ),
    (
        PreTokenizer((r"[\p{P}\$\+<=>\^~\|]+", _GPT_2, r"\p{N}+", "[0-9][0-9][0-9]")),
        "default",
    ),
    (
        PreTokenizer((_LLAMA_3,), whole_words=True, add_bos=True),
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
    ),
    (PreTokenizer((_LLAMA_3,)), "dbrx smaug-bpe chatglm-bpe"),
    (PreTokenizer((_LLAMA_3,), whole_words=True), "glm4 glm5"),
    (
        PreTokenizer((_QWEN_2,)),
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2",
    ),
    (
        PreTokenizer(
            (
                rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
                rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}",
            )
        ),
        "qwen35",
    ),
    (PreTokenizer((rf"{_WORD}|\p{{N}}|{_SIGNS}|{_SPACES}",)), "ufakzeka"),
    (PreTokenizer((r"[^\n]+|[\n]+", _QWEN_2)), "laguna"),
    (
        PreTokenizer((r"\p{N}{1,3}", rf"{_ENDINGS}|{_WORD}|\p{{N}}+|{_SIGNS}|{_SPACES}"), whole_words=True),
        "minicpm5",
    ),
    (
        PreTokenizer(
            (
                rf"'(?:[sSdDmMtT]|[lL][lL]|[vV][eE]|[rR][eE])|{_WORD}|\p{{N}}|{_SIGNS}"
                r"|\s*[\r\n]|\s+(?!\S)|\s+",
            )
        ),
        "bailingmoe bailingmoe2 llada-moe",
    ),
    (
        PreTokenizer((rf"{_ENDINGS}|{_WORD}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",)),
        "seed-coder",
    ),
    (
        PreTokenizer(
            (
                rf"{_ENDINGS}|[^\r\n\p{{L}}\p{{N}}]?(?:\p{{L}}\p{{M}}*(?: \p{{L}}\p{{M}}*)*)+|\p{{N}}"
                r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
            )
        ),
        "exaone-moe",
    ),
    (
        PreTokenizer(
            (rf"{_ENDINGS}|{_WORD}|\p{{N}}{{1,3}}|{_SIGNS}|\s*[\r\n]+|{_JAIS_SPACES}|\s",),
        ),
        "jais-2",
    ),
    (PreTokenizer((_GPT_4O,)), "gpt-4o llama4 kanana2 talkie minimax-m2"),
    (PreTokenizer((_GPT_4O,), whole_words=True), "granite-embed-multi-97m"),
    (PreTokenizer((r"\d{1,3}(?=(?:\d{3})*\b)", _GPT_4O)), "tiny_aya cohere2moe"),
    (
        PreTokenizer(
            (rf"{_CASED_START}|{_CASED_REST}|\p{{N}}|{_SLASHED_SIGNS}|{_SPACES}",),
            whole_words=True,
            add_bos=True,
        ),
        "tekken",
    ),
    (
        PreTokenizer(
            (
                f"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|{_HAN_KANA}",
                rf"{_CASED_START}{_ENDINGS}?|{_CASED_REST}{_ENDINGS}?|\p{{N}}|{_SLASHED_SIGNS}|{_SPACES}",
            ),
            whole_words=True,
        ),
        "youtu",
    ),
    (PreTokenizer((_KIMI,)), "kimi-k2"),
    (
        PreTokenizer((r"\p{N}{1,3}", _HAN_KANA, _DEEPSEEK_3)),
        "deepseek-v3 hunyuan-dense joyai-llm hy_v4",
    ),
    (PreTokenizer((r"\p{N}{1,3}", _HAN_KANA, _SPARK, r"\p{N}")), "spark2_5"),
    (
        PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}")),
        "deepseek-coder",
    ),
    (
        PreTokenizer((r"[\p{P}\$\+<=>\^~\|`]+", _GPT_2, "[0-9][0-9][0-9]")),
        "falcon",
    ),
    (PreTokenizer((_BLOOM,)), "poro-chat bloom gpt3-finnish"),
    (PreTokenizer((_BLOOM, r"\p{N}")), "viking"),
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {name: rule for rule, names in _FAMILIES for name in names.split()}
"""Rules by the name that stands under `tokenizer.ggml.pre`."""
