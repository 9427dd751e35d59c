"""Bots, recognized by their names in the user agent.

The name is that of a product, or is in `compatible; NAME; +https://…`, which crawlers add to the user agent
of a browser. Names of devices do not count: there are phones that are called "AI Bot".
"""

import re

from authsvc.model.user_agent import Product, UserAgent, products_in, shown_version

_NAME = re.compile(r"bots?(?![a-z])|crawler(?![a-z])|spider(?![a-z])|slurp(?![a-z])", re.IGNORECASE)
# Names that match, but are not those of bots.
_FALSE = re.compile(r"iRobot|CUBOT|Spider-?Man", re.IGNORECASE)
# Bots whose names do not match.
_KNOWN = re.compile(
    r"(?:ChatGPT|Claude|Perplexity|MistralAI|Gemini|Meta-Externalfetcher)-User|Claude-SearchBot"
    r"|OAI-SearchBot|meta-external(?:agent|fetcher|ads)|facebook(?:externalhit|catalog)|FeedFetcher-Google"
    r"|Google-(?:CWS|Read-Aloud|InspectionTool|Safety|Site-Verification|CloudVertexBot|NotebookLM|Agent)"
    r"|GoogleOther(?:-Image|-Video)?|(?:APIs|Mediapartners)-Google|GoogleProducer|Storebot-Google|BingPreview"
    r"|ia_archiver|archive\.org_bot|Chrome-Lighthouse|Google Page Speed Insights|cohere-ai|Diffbot|Bytespider"
    r"|SkypeUriPreview|Pingdom\.com|StatusCake|Site24x7|Google-Extended|DuckAssist|Feedly|Iframely|W3C_Validator",
    re.IGNORECASE,
)
_INTRODUCED = re.compile(r"(?:^|;)\s*compatible;\s*([^;()]+)")
_CONTACT = re.compile(r"https?://|\w@\w")
# A name with a version after a space: Slackbot-LinkExpanding 1.0.
_SPACED = re.compile(r"([A-Za-z][\w.!-]*(?: [A-Za-z][\w.!-]*){0,3})(?:[ /]v?(\d[\d.]*))?")
_DEVICE = re.compile(r"\b(?:iPhone|iPad|iOS|Android)\b")


def find(agent: UserAgent) -> Product | None:
    """Return the bot that the agent names; None when it names none."""
    is_browser = agent.text.startswith("Mozilla/")
    if not is_browser and (found := _named(agent)) is not None:
        # An agent that names a phone is an app, which people use.
        return None if _DEVICE.search(agent.platform) else found
    for comment in agent.comments:
        if (found := _introduced(comment)) is not None:
            return found
    # The first comment names the device, which can be called anything.
    for products in (agent.products, *map(products_in, agent.comments[1:])):
        if (found := _first(products)) is not None:
            return found
    if is_browser and (match := _INTRODUCED.search(agent.bare)) is not None:
        # OpenAI closes the parenthesis before it.
        return next(iter(products_in(match[1])), None)
    return None


def is_name(name: str) -> bool:
    """Return whether this is the name of a bot."""
    return (_NAME.search(name) is not None and not _FALSE.match(name)) or _KNOWN.match(name) is not None


def _named(agent: UserAgent) -> Product | None:
    """Return the bot at the begin of an agent, or among its products."""
    match = _SPACED.match(agent.bare)
    if match is not None and is_name(match[1]) and (match[2] or " " not in match[1] or _has_contact(agent)):
        return Product(match[1], shown_version(match[2] or ""))
    return _first(agent.products)


def _introduced(comment: str) -> Product | None:
    match = _INTRODUCED.search(comment)
    if match is None or match[1].startswith("MSIE"):
        return None
    name = match[1].strip()
    product = next(iter(products_in(name)), None)
    if product is None:
        spaced = _SPACED.fullmatch(name)
        product = Product(name, "") if spaced is None else Product(spaced[1], shown_version(spaced[2] or ""))
    if is_name(product.name):
        return product
    return product if _CONTACT.search(comment, match.end(1)) else None


def _first(products: tuple[Product, ...]) -> Product | None:
    return next((product for product in products if is_name(product.name)), None)


def _has_contact(agent: UserAgent) -> bool:
    return _CONTACT.search(agent.text) is not None
