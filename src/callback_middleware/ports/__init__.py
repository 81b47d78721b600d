"""The seams: what the two halves ask of the world, as Protocols and nothing else."""

from callback_middleware.ports.clock import Clock
from callback_middleware.ports.log import DeliveryLog
from callback_middleware.ports.observing import Observer
from callback_middleware.ports.outbox import Batch, Outbox, PutReport
from callback_middleware.ports.sending import Sender, Signer
from callback_middleware.ports.transactions import Fate, Joined, TransactionalOutbox

__all__ = [
    "Batch",
    "Clock",
    "DeliveryLog",
    "Fate",
    "Joined",
    "Observer",
    "Outbox",
    "PutReport",
    "Sender",
    "Signer",
    "TransactionalOutbox",
]
