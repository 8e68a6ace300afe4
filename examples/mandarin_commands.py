"""A small grammar of Mandarin home commands and digit strings, with the pinyin of every character."""

from __future__ import annotations

import random
import zlib

# espeak-ng's `cmn` voice may read the characters' pinyin as English, so that the speech is made from pinyin.
PINYIN: dict[str, str] = {
    "零": "ling2",
    "一": "yi1",
    "二": "er4",
    "三": "san1",
    "四": "si4",
    "五": "wu3",
    "六": "liu4",
    "七": "qi1",
    "八": "ba1",
    "九": "jiu3",
    "十": "shi2",
    "幺": "yao1",
    "打": "da3",
    "开": "kai1",
    "关": "guan1",
    "闭": "bi4",
    "请": "qing3",
    "把": "ba3",
    "客": "ke4",
    "厅": "ting1",
    "卧": "wo4",
    "室": "shi4",
    "厨": "chu2",
    "房": "fang2",
    "的": "de5",
    "灯": "deng1",
    "空": "kong1",
    "调": "tiao2",
    "窗": "chuang1",
    "帘": "lian2",
    "电": "dian4",
    "视": "shi4",
    "播": "bo1",
    "放": "fang4",
    "停": "ting2",
    "止": "zhi3",
    "音": "yin1",
    "乐": "yue4",
    "新": "xin1",
    "闻": "wen2",
    "量": "liang4",
    "温": "wen1",
    "度": "du4",
    "到": "dao4",
    "今": "jin1",
    "明": "ming2",
    "天": "tian1",
    "上": "shang4",
    "下": "xia4",
    "午": "wu3",
    "晚": "wan3",
    "点": "dian3",
    "半": "ban4",
    "提": "ti2",
    "醒": "xing3",
    "我": "wo3",
}
DIGITS = "零一二三四五六七八九"
ROOMS = ("客厅", "卧室", "厨房")
DEVICES = ("灯", "空调", "窗帘", "电视")
DAYS = ("今天", "明天")
DAY_PARTS = ("上午", "下午", "晚上")
PROGRAMMES = ("音乐", "新闻")


def spell(number: int) -> str:
    """Read a number from 1 to 99 the Chinese way, 25 as 二十五."""
    tens, ones = divmod(number, 10)
    head = "" if tens == 0 else ("十" if tens == 1 else DIGITS[tens] + "十")
    return head + (DIGITS[ones] if ones or not tens else "")


def digit_string(source: random.Random) -> str:
    """Four to eight digits; in a third of the strings one is called 幺, as in telephone numbers."""
    text = "".join(source.choice(DIGITS) for _ in range(source.randint(4, 8)))
    return text.replace("一", "幺") if source.random() < 1 / 3 else text


def device_command(source: random.Random) -> str:
    """Switches a device, such as 打开客厅的灯 or 把空调关闭."""
    room = source.choice(("", *(room + "的" for room in ROOMS)))
    device = room + source.choice(DEVICES)
    verb = source.choice(("打开", "关闭"))
    return source.choice((f"{verb}{device}", f"请{verb}{device}", f"把{device}{verb}", f"请把{device}{verb}"))


def media_command(source: random.Random) -> str:
    """Start or stops a programme, such as 停止播放音乐."""
    verb = source.choice(("播放", "停止播放"))
    room = source.choice(("", *ROOMS))
    return source.choice(("", "请")) + room + verb + source.choice(PROGRAMMES)


def level_command(source: random.Random) -> str:
    """Set a volume or a temperature, such as 音量调到五."""
    thing = source.choice(("音量", "温度", "电视音量", "空调温度"))
    room = source.choice(("", "", *(room + "的" for room in ROOMS)))
    return source.choice(("", "请把")) + f"{room}{thing}调到{spell(source.randint(1, 40))}"


def timed_command(source: random.Random) -> str:
    """Asks for something later, such as 明天上午八点提醒我."""
    hour = spell(source.choice([hour for hour in range(1, 13) if hour != 2]))
    time = source.choice(DAYS) + source.choice(DAY_PARTS) + hour + "点" + source.choice(("", "半"))
    device = source.choice(("打开", "关闭")) + source.choice(DEVICES)
    return time + source.choice(("提醒我", device, "播放" + source.choice(PROGRAMMES)))


def sentence(source: random.Random) -> str:
    """Draws one sentence: two in five are digit strings, the others commands."""
    kinds = (digit_string, device_command, media_command, level_command, timed_command)
    return source.choices(kinds, weights=(8, 3, 1, 3, 5))[0](source)


def is_held_out(text: str) -> bool:
    """Tells whether a sentence belongs to the quarter of all sentences that training never sees."""
    return zlib.crc32(text.encode()) % 4 == 0


def sentences(count: int, held_out: bool, source: random.Random, repeat: bool) -> list[str]:
    """Draws sentences of one side of the division, all different unless `repeat`."""
    drawn: list[str] = []
    while len(drawn) < count:
        text = sentence(source)
        if is_held_out(text) == held_out and (repeat or text not in drawn):
            drawn.append(text)
    return drawn


def pinyin(text: str) -> str:
    """Write a sentence in numbered pinyin, one syllable a character."""
    return " ".join(PINYIN[character] for character in text)
