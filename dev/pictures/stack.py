"""The default stack, as compose renders compose.yml, as a flow chart in Mermaid.

Services in boxes, one for each set of networks that somebody is on; what the host publishes and what is kept
outside of them; an arrow from whatever starts first, with what the next one waits for.
"""

from typing import Any

#: What `depends_on` waits for, as a word on an arrow.
WAITS_FOR = {
    "service_started": "started",
    "service_healthy": "healthy",
    "service_completed_successfully": "ended well",
}

Service = dict[str, Any]


def _what(service: Service) -> str:
    """What a service is made of: an image of others, or ours."""
    if "build" in service:
        return f"of {service['build']['dockerfile']}"
    return str(service["image"])


def _once(service: Service) -> str:
    return "<br/>runs once" if service["restart"] == "no" else ""


def _boxes(services: dict[str, Service]) -> list[str]:
    """A box for each set of networks, smallest sets first."""
    lines = []
    sets = sorted({tuple(sorted(each["networks"])) for each in services.values()}, key=lambda s: (len(s), s))
    for number, networks in enumerate(sets):
        title = f"network{'s' * (len(networks) > 1)} {' and '.join(networks)}"
        lines.append(f'    subgraph n{number}["{title}"]')
        lines += [
            f'        {name}["<b>{name}</b><br/>{_what(service)}{_once(service)}"]'
            for name, service in services.items()
            if tuple(sorted(service["networks"])) == networks
        ]
        lines.append("    end")
    return lines


def _order(services: dict[str, Service]) -> list[str]:
    return [
        f"    {peer} -->|{WAITS_FOR[how['condition']]}| {name}"
        for name, service in services.items()
        for peer, how in sorted((service.get("depends_on") or {}).items())
    ]


def _outside(services: dict[str, Service]) -> list[str]:
    """Ports of the host, and volumes."""
    lines = []
    for name, service in services.items():
        lines += [
            f'    port{port["published"]}(["{port["host_ip"]}:{port["published"]}"]) -.-> {name}'
            for port in service.get("ports") or []
        ]
        lines += [
            f'    {name} === {volume["source"]}[("{volume["source"]}")]'
            for volume in service.get("volumes") or []
        ]
    return lines


def diagram(rendered: dict[str, Any]) -> str:
    """The picture of a configuration that compose has rendered, as Mermaid's text."""
    services: dict[str, Service] = rendered["services"]
    return "\n".join(["flowchart LR", *_boxes(services), *_order(services), *_outside(services)])
