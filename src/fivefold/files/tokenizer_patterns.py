"""The regular expressions that pre-tokenizers are put together from, in Oniguruma's syntax.

They are those of llama.cpp, in so far as an expression can say it: its regex engine knows no letter cases
beyond ASCII and takes the categories \\p{Lu}, \\p{Ll} and so on for \\p{L}, its hand-written cutters
have ways of their own, and a GGUF file means what llama.cpp makes of it. So [\\p{L}&&[^a-z]] stands
where a model's own tokenizer.json has upper-case letters. Expressions take linear time on long runs.
"""

from __future__ import annotations

ENDINGS = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
LEAD = r"[^\r\n\p{L}\p{N}]?"
WORD = rf"{LEAD}\p{{L}}+"
SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
SLASHED_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA_3 = rf"{ENDINGS}|{WORD}|\p{{N}}{{1,3}}|{SIGNS}|{SPACES}"
QWEN_2 = rf"{ENDINGS}|{WORD}|\p{{N}}|{SIGNS}|{SPACES}"

_UPPER, _LOWER = r"[\p{L}&&[^a-z]]", r"[\p{L}&&[^A-Z]]"
_UPPER_MARKED, _LOWER_MARKED = r"[[\p{L}\p{M}]&&[^a-z]]", r"[[\p{L}\p{M}]&&[^A-Z]]"
TEKKEN = rf"{LEAD}{_UPPER}*{_LOWER}+|{LEAD}{_UPPER}+{_LOWER}*|\p{{N}}|{SLASHED_SIGNS}|{SPACES}"
GPT_4O = (
    rf"{LEAD}{_UPPER}*{_LOWER}+{ENDINGS}?|{LEAD}{_UPPER}+{_LOWER}*{ENDINGS}?"
    rf"|\p{{N}}{{1,3}}|{SLASHED_SIGNS}|{SPACES}"
)
GRANITE_MULTILINGUAL = (
    rf"{LEAD}{_UPPER_MARKED}*{_LOWER_MARKED}+{ENDINGS}?|{LEAD}{_UPPER_MARKED}+{_LOWER_MARKED}*{ENDINGS}?"
    rf"|\p{{N}}{{1,3}}|{SLASHED_SIGNS}|{SPACES}"
)
MARKED_WORD = rf"{LEAD}[\p{{L}}\p{{M}}]+{ENDINGS}?"
"""What is left of the words of gpt-4o where every letter is of either case."""

_HAN = (
    r"\x{4E00}-\x{9FFF}\x{3400}-\x{4DBF}\x{20000}-\x{2A6DF}\x{2A700}-\x{2B73F}\x{2B740}-\x{2B81F}"
    r"\x{2B820}-\x{2CEAF}\x{2CEB0}-\x{2EBEF}\x{F900}-\x{FAFF}\x{2F800}-\x{2FA1F}"
)
KIMI = rf"[{_HAN}]+|{LEAD}[\p{{L}}&&[^{_HAN}]]+{ENDINGS}?|\p{{N}}{{1,3}}|{SIGNS}|{SPACES}"
"""llama.cpp's cutter for Kimi K2 does not look at case or marks, and has its own list of Han characters."""

_ASCII_SIGN_WORD = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
_DEEPSEEK_WORD = r"[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
DEEPSEEK_3 = rf"{_ASCII_SIGN_WORD}|{_DEEPSEEK_WORD}| ?[\p{{P}}\p{{S}}]+[\r\n]*|{SPACES}"
SPARK = rf"{_ASCII_SIGN_WORD}|{_DEEPSEEK_WORD}| ?[\p{{P}}\p{{S}}]+|[\r\n]|\s+(?!\S)|\s+"
HAN_KANA = "[一-龥぀-ゟ゠-ヿ]+"
HAN_HANGUL = r"[一-龥ࠀ-一가-퟿&&[^\s]]+"
"""Its second range goes across the wide spaces, which llama.cpp takes for a control character by then."""
YOUTU_SCRIPTS = f"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|{HAN_KANA}"
BLOOM = r" ?[^(\s|.,!?…。，、।۔،)]+"
JAIS_SPACES = "|".join(rf"\s{{{width}}}(?!\S)" for width in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
CHAMELEON = (
    "<sentinel:[0-9]+>",
    "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    GPT_2,
)
ASIAN_SCRIPTS = "[一-鿿㐀-䶿豈-﫿぀-ゟ゠-ヿ･-ﾟ⼀-⿟เ-๿຀-໿ក-៿က-႟ꩠ-ꩿꧠ-꧿가-힯ᄀ-ᇿ]+"
DEEPSEEK_LLM_LETTERS = (
    r"\s?["
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-Ჺ"
    "Ჽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓ"
    "ℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-"
    "𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
    "]+"
)

DIGIT_GROUPS = (
    r"\P{N}*+\p{N}++|\P{N}++\z",
    r"\A\P{N}*+\p{N}{1,3}(?=(?:\p{N}{3})*+\z)",
    r"\A\P{N}+\p{N}{1,3}\z|\p{N}{3}",
)
"""Runs of digits in groups of three from the right, as llama.cpp cuts them for afmoe and tiny_aya.

The first group stays with the text before it. The first expression takes texts with the run that follows
them, the second cuts off what leaves a multiple of three digits, the third cuts those.
"""

_RUN_IN_THREES = r"(?<![0-9])[0-9]{3}(?=(?:[0-9]{3})*+(?![0-9]))"
_SHORT_RUN = r"(?<![0-9])[0-9]{1,2}(?![0-9])"
_ODD_DIGITS = r"(?<![0-9])[0-9]{1,2}(?=(?:[0-9]{3})++(?![0-9]))"
_BETWEEN = rf"(?:[^0-9]++|{_SHORT_RUN})*+(?:{_ODD_DIGITS})?"
SUPERBPE = (r"\p{N}+", rf"(?:(?<=[0-9])[0-9]{{3}}|{_RUN_IN_THREES})(?:(?![0-9]){_BETWEEN})?|{_BETWEEN}")
"""Numbers, and in them a cut before every multiple of three ASCII digits that ends a run of them.

That is (?=(\\d{3})+(?!\\d)), which would look to the end of the run at every digit. Here a match goes from
cut to cut: three digits, and after the last three of a run what follows, up to the next run's first cut.
"""
