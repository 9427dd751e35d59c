"""The verdicts on all credentials of one request."""

from typing import NamedTuple

from authsvc.gateway.presented import Presented
from authsvc.model.verdict import NOT_FOUND, Verdict, VerdictCode
from authsvc.verify.verifier import Question, Verifier


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
        verdicts = {}
        for text in asked.presented.texts:
            if (verdict := self._verifier.recall(asked.question, text)) is None:
                return None
            verdicts[text] = verdict
        return verdicts

    async def look_up(self, asked: Presentation) -> dict[str, Verdict]:
        """Return the verdict on each credential, all at one instant, so that none is older than the answer.

        Raises what `Verifier.verify` raises.
        """
        question, texts = asked.question, asked.presented.texts
        if len(texts) == 1:
            return {texts[0]: await self._verifier.verify(question, texts[0])}
        strangers: set[str] = set()
        while True:
            verdicts = {
                text: NOT_FOUND if text in strangers else self._verifier.recall(question, text)
                for text in texts
            }
            if all(verdicts.values()):
                return {text: verdict for text, verdict in verdicts.items() if verdict is not None}
            for text in texts:
                # An unknown text stays unknown; a known one is in memory now.
                if verdicts[text] is None:
                    code, _ = await self._verifier.verify(question, text)
                    if code is VerdictCode.NOT_FOUND:
                        strangers.add(text)
