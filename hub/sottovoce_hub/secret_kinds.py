"""Kinds of secrets that are searched for: those of detect-secrets, and what it does not know.

Of detect-secrets' plugins those are left out that alarm on honest models. Its entropy plugins take every long word of a
vocabulary for a secret, the one for keywords every `token` of a tokenizer's configuration, `PrivateKeyDetector` the
words BEGIN PRIVATE KEY, `BasicAuthDetector` a placeholder in a card, and those for IP addresses, Artifactory, Cloudant,
Softlayer, Twilio, IBM and Telegram know their secrets by too little.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of secret."""

    name: str
    hints: tuple[str, ...]
    """Texts of which one must occur: they are found quickly, and the rest is looked at around them only."""
    find: Callable[[str], int | None]
    """Function that returns the place of one in a piece of text."""


_PLUGINS = (
    ("aws", "AWSKeyDetector", "an AWS key", "AKIA ASIA ABIA ACCA A3T aws AWS Aws"),
    ("azure_storage_key", "AzureStorageKeyDetector", "an Azure storage key", "AccountKey="),
    ("github_token", "GitHubTokenDetector", "a GitHub token", "ghp_ gho_ ghu_ ghs_ ghr_"),
    (
        "gitlab_token",
        "GitLabTokenDetector",
        "a GitLab token",
        "glpat- gldt- glft- glsoat- glrt- GR1348941 glcbt- glimt- glptt- glagent- gloas-",
    ),
    ("jwt", "JwtTokenDetector", "a JSON web token", "eyJ"),
    ("mailchimp", "MailchimpDetector", "a Mailchimp key", "-us"),
    ("npm", "NpmDetector", "an npm token", ":_authToken="),
    ("openai", "OpenAIDetector", "an API key", "T3BlbkFJ"),
    ("pypi_token", "PypiTokenDetector", "a PyPI token", "pypi-Ag"),
    ("sendgrid", "SendGridDetector", "a SendGrid key", "SG."),
    ("slack", "SlackDetector", "a Slack token", "xoxa- xoxb- xoxp- xoxo- xoxs- xoxr- hooks.slack.com"),
    ("square_oauth", "SquareOAuthDetector", "a Square secret", "sq0csp-"),
    ("stripe", "StripeDetector", "a Stripe key", "rk_live_ sk_live_"),
)
"""Module, class, what it finds, and hints."""

_PATTERNS = (
    ("a Hugging Face token", "hf_ api_org_", r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}\b"),
    ("a ModelScope token", "ms-", r"\bms-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"),
    (
        "a private key",
        "PRIVATE PuTTY-User-Key-File-",
        r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d+:",
    ),
    ("a GitHub token", "github_pat_", r"\bgithub_pat_\w{40,}"),
    (
        "an AWS key",
        "ccess_key ccessKey CCESS_KEY ccess-key AccessKey",
        r"(?i)secret[_ -]?access[_ -]?key[\"']?\s*[:=,]\s*[\"']?[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+])",
    ),
    (
        "an AWS key",
        "ession_token essionToken ESSION_TOKEN",
        r"(?i)session[_ -]?token[\"']?\s*[:=,]\s*[\"']?[A-Za-z0-9/+=]{100,}",
    ),
    ("an Aliyun key", "LTAI", r"\bLTAI(?=[A-Za-z]{0,26}\d)[A-Za-z0-9]{12,26}\b"),
    ("a Tencent Cloud key", "AKID", r"\bAKID(?=[A-Za-z]{0,32}\d)[A-Za-z0-9]{32}\b"),
    ("a Google key", "AIza GOCSPX- ya29.", r"\bAIza[\w-]{35}(?![\w-])|\bGOCSPX-[\w-]{28}(?![\w-])|\bya29\.[\w-]{30,}"),
    ("a Slack token", "xapp- xoxe", r"\bxapp-\d-[A-Z0-9]+-\d+-[0-9a-f]{20,}|\bxoxe(?:\.xox[bp])?-\d-[\w-]{30,}"),
    ("a GitLab token", "_gitlab_session= glfp", r"\bgl(?:fp|ffct|oas)t?-[\w-]{20,}|_gitlab_session=[0-9a-f]{32}"),
    ("an npm token", "npm_", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("a Stripe key", "k_live_ k_test_ whsec_", r"\b[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|\bwhsec_[A-Za-z0-9+/]{32,}"),
    (
        "an Azure key",
        "AccessKey= Q~ sig=",
        r"SharedAccessKey=[A-Za-z0-9+/]{40,}=?|\b[\w~.]{3}\dQ~[\w~.-]{31,34}(?![\w~.-])"
        r"|[?&]sv=\d{4}-\d\d-\d\d&\S*sig=[\w%+/]{40,}",
    ),
    ("an API key", "sk-", r"\bsk-(?=[\w-]{0,60}\d)(?=[\w-]{0,60}[A-Za-z])[\w-]{32,}"),
    (
        "a password in an address",
        "://",
        r"\b[a-z][a-z0-9+.-]{1,20}://(?!(?:user(?:name)?|login|name):(?:pass(?:word|wd)?|token|secret)@)"
        r"[^\s/:@\"'`<>(){}$*\\]{0,100}:[^\s/@\"'`<>(){}$*\\]{3,200}@[\w.-]+",
    ),
    ("a password", "password", r"\bmachine\s+\S+\s+login\s+\S+\s+password\s+\S+"),
)
"""Name of the secret, hints, and the pattern."""


@functools.cache
def kinds() -> tuple[Kind, ...]:
    """Return all of them."""
    known = []
    for module, name, what, hints in _PLUGINS:
        plugin = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)()
        find = functools.partial(_by_plugin, plugin.analyze_string)
        known.append(Kind(name=what, hints=tuple(hints.split()), find=find))
    for what, hints, pattern in _PATTERNS:
        # In ASCII: a secret may follow a word of another script at once.
        find = functools.partial(_by_pattern, re.compile(pattern, re.ASCII))
        known.append(Kind(name=what, hints=tuple(hints.split()), find=find))
    return tuple(known)


def _by_plugin(analyze: Callable[[str], Iterable[str]], text: str) -> int | None:
    return next((text.find(secret) for secret in analyze(text)), None)


def _by_pattern(pattern: re.Pattern[str], text: str) -> int | None:
    match = pattern.search(text)
    return match.start() if match else None
