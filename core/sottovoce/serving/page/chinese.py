"""Sentences of the page and their translations."""

from __future__ import annotations

TEXTS = {
    "align": ("Align", "对齐"),
    "align_hint": ("Find when each word of a text is said.", "查找文本中每个词的时间。"),
    "answer": ("Answer", "回答"),
    "ask": ("Ask", "提问"),
    "audio": ("Audio: a file or a recording", "音频：上传文件或录音"),
    "audio_missing": ("Choose a file or record something first.", "请先选择文件或录音。"),
    "batch": ("Batch", "批量"),
    "batch_hint": ("Transcribe several files, and download all texts at once.", "转写多个文件，并一次下载全部文本。"),
    "busy": ("Waiting for its turn", "正在排队"),
    "answer_cut_off": (
        "{model}: the answer ends at the model's limit of tokens, unfinished.",
        "{model}：回答因达到模型的 token 上限而中断。",
    ),
    "compared": ("Original", "原模型"),
    "comparison": ("Comparison", "对比"),
    "conversation": ("Conversation", "对话"),
    "conversation_hint": ("Ask about text, audio and pictures.", "就文本、音频和图片提问。"),
    "cut_off": (
        "Segments that end at the model's limit of tokens, unfinished: {count}.",
        "因达到模型的 token 上限而中断的片段：{count}。",
    ),
    "differing": ("Differing characters", "不同字符"),
    "done": ("{seconds:.1f} s of audio in {time:.2f} s", "{seconds:.1f} 秒音频，用时 {time:.2f} 秒"),
    "download": ("Download", "下载"),
    "file": ("File", "文件"),
    "files": ("Audio files", "音频文件"),
    "hotwords": ("Hotwords, separated by spaces", "热词，用空格分隔"),
    "image": ("Picture", "图片"),
    "language": ("Language, such as zh or English; empty if unknown", "语言，如 zh 或 English；未知则留空"),
    "memory": ("Model in memory", "模型内存"),
    "model": ("Model", "模型"),
    "more": ("Further lines, which are in the files to download: {count}.", "其余 {count} 行见下载文件。"),
    "none": ("none", "无"),
    "nothing": ("No speech was recognized.", "没有识别到语音。"),
    "part": ("{done:.0f} of {total:.0f} s", "{done:.0f} / {total:.0f} 秒"),
    "play": ("Play {word}, {start:.2f} to {end:.2f} s", "播放 {word}，{start:.2f} 至 {end:.2f} 秒"),
    "question": ("Question", "问题"),
    "question_missing": ("Write a question, or add audio or a picture.", "请输入问题，或添加音频或图片。"),
    "result": ("Text", "文本"),
    "same": ("Both texts are the same.", "两个文本相同。"),
    "small": ("Compressed", "压缩模型"),
    "speed": ("Times real time", "实时倍数"),
    "stop": ("Stop", "停止"),
    "stopped": ("Stopped.", "已停止。"),
    "text": ("What is said", "说话内容"),
    "text_missing": ("Write what is said.", "请输入说话内容。"),
    "time": ("Time of this run", "本次用时"),
    "transcribe": ("Transcribe", "转写"),
    "transcribed": ("Transcribed files: {done} of {total}.", "已转写文件：{done} / {total}。"),
    "words": ("Click a word to hear it", "点击词语即可播放"),
}
"""By key, the text in English and in Chinese."""

ENGLISH = {key: english for key, (english, _) in TEXTS.items()}
CHINESE = {key: chinese for key, (_, chinese) in TEXTS.items()}
