"""The metrics of clients that verify in their own process."""

from authsvc.app.parts import App


def watch_clients(app: App) -> None:
    """Have the metrics of a worker look at the clients that follow it."""
    watch_counter, watch_gauge = app.metrics.watch_counter, app.metrics.watch_gauge
    clients = app.holder.clients
    watch_gauge(
        "clients_following", "Clients that hold credentials of this worker.", lambda: len(clients.clients)
    )
    watch_gauge(
        "clients_held",
        "Credentials that they hold together.",
        lambda: sum(len(each.holdings) for each in clients.clients),
    )
    watch_counter(
        "clients_late", "How often a change had to wait for one of them.", lambda: clients.late.count
    )
    watch_counter(
        "clients_refused",
        "Clients that were not allowed to follow, by the reason.",
        lambda: clients.refused,
        label="reason",
    )
