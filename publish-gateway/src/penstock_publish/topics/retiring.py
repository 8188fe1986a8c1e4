"""What a change of a topic's lifecycle means for the connections that are open on it."""

from __future__ import annotations

from penstock.http.socket_life import Close
from penstock_publish.lifecycle.states import Lifecycle, State, deprecated_notice, sees
from penstock_publish.topics.framing import frame_notice
from penstock_publish.topics.hub import Hub

__all__ = ["follow_lifecycle"]


def follow_lifecycle(hub: Hub, topic: str, lifecycle: Lifecycle) -> None:
    """Close what may not be open any more (4404, not to come back); tell the others that a topic is deprecated."""
    notice = deprecated_notice(topic, lifecycle)
    for connection in hub.connections_of(topic):
        if lifecycle.state is State.RETIRED:
            connection.close(Close(4404, "topic_retired"))
        elif not sees(lifecycle, connection.principal):
            connection.close(Close(4404, "unknown_topic"))
        elif notice is not None:
            connection.outlet.write(frame_notice(notice, connection.outlet.encoding))
