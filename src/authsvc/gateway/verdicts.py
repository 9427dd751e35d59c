"""The verdicts on all credentials of one request."""

from collections.abc import Mapping
from typing import NamedTuple

from authsvc.gateway.presented import Presented
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode
from authsvc.verify.verifier import Question, Verifier

# Verdicts on credentials that are valid, whatever their scopes, rate limits and credits.
GOOD = (
    VerdictCode.VALID,
    VerdictCode.INSUFFICIENT_SCOPE,
    VerdictCode.RATE_LIMITED,
    VerdictCode.CREDITS_EXHAUSTED,
)


class Presentation(NamedTuple):
    """The credentials of a request, and what is asked about each."""

    question: Question
    presented: Presented


class Verdicts:
    """Asks the verifier."""

    def __init__(self, verifier: Verifier) -> None:
        self._verifier = verifier

    def recall(self, asked: Presentation) -> dict[str, Verdict] | None:
        """Return the verdict on each credential from memory; None if memory does not know one of them."""
        question, texts = asked.question, asked.presented.texts
        if len(texts) > 1:
            # Only of the one that is used, if any, something is taken from its rate limits and credits.
            question = question._replace(cost=None)
        verdicts = {}
        for text in texts:
            if (verdict := self._verifier.recall(question, text)) is None:
                return None
            verdicts[text] = verdict
        return None if len(texts) > 1 and _limited(verdicts) else verdicts

    async def look_up(self, asked: Presentation) -> dict[str, Verdict]:
        """Return the verdict on each credential, all at one instant, so that none is older than the answer.

        Raises what `Verifier.verify` raises.
        """
        question, texts = asked.question, asked.presented.texts
        if len(texts) == 1:
            return {texts[0]: await self._verifier.verify(question, texts[0])}
        paying, question = question, question._replace(cost=None)
        strangers: set[str] = set()
        while True:
            verdicts = {
                text: NOT_FOUND if text in strangers else self._verifier.recall(question, text)
                for text in texts
            }
            if all(verdicts.values()):
                found = {text: verdict for text, verdict in verdicts.items() if verdict is not None}
                if not (limited := _limited(found)):
                    return found
                # While units are borrowed, others may become valid. Then they are not used, since none was.
                return {**found, limited: await self._verifier.verify(paying, limited)}
            for text in texts:
                # An unknown text stays unknown; a known one is in memory now.
                if verdicts[text] is None:
                    verdict = await self._verifier.verify(question, text)
                    if verdict.code is VerdictCode.NOT_FOUND:
                        strangers.add(text)


def _limited(verdicts: Mapping[str, Verdict]) -> str:
    """Return the text of the one credential that is valid, if it has limits or credits; "" without one."""
    good = [text for text, verdict in verdicts.items() if verdict.code in GOOD]
    if len(good) != 1:
        return ""
    code, credential, *_ = verdicts[good[0]]
    is_limited = code is VerdictCode.VALID and credential is not None and credential.limits is not None
    return good[0] if is_limited else ""
