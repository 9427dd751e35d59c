"""Technical contacts in a form: pairs of a name and an address, and a button for one more."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from authsvc.v1.resources_pb2 import TechnicalContact
from authsvc.web.console.forms import Form

_MAX = 16
_EMPTY = ("", "")


class Contacts(NamedTuple):
    """The contacts as they are typed. An empty pair is none."""

    pairs: Sequence[tuple[str, str]] = (_EMPTY,)

    @property
    def has_room(self) -> bool:
        """Whether one more may be added."""
        return len(self.pairs) < _MAX

    @property
    def messages(self) -> list[TechnicalContact]:
        """The contacts with a name or an address."""
        return [TechnicalContact(name=name, email=email) for name, email in self.pairs if name or email]


def contacts_of_form(form: Form) -> Contacts:
    """Return what was typed. One more contact is offered if `more` was pressed."""
    typed = zip(form.all("contact_name"), form.all("contact_email"), strict=False)
    pairs = [(name.strip(), email.strip()) for name, email in typed][:_MAX]
    if "more" in form and len(pairs) < _MAX:
        pairs.append(_EMPTY)
    return Contacts(pairs or [_EMPTY])


def contacts_of(messages: Iterable[TechnicalContact]) -> Contacts:
    """Return contacts as a form shows them."""
    return Contacts([(contact.name, contact.email) for contact in messages] or [_EMPTY])
