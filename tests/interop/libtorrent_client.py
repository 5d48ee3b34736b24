"""Maps port 6881 of TCP and UDP with libtorrent's own client, says so, and unmaps at end of input.

libtorrent asks by PCP, and by NAT-PMP when that is refused.
"""

import json
import sys
import time

import libtorrent

session = libtorrent.session(
    {
        "listen_interfaces": f"{sys.argv[1]}:6881",
        "enable_natpmp": True,
        "enable_upnp": False,
        "enable_lsd": False,
        "enable_dht": False,
        "alert_mask": libtorrent.alert.category_t.all_categories,
    }
)
ports, transports = {}, set()
deadline = time.monotonic() + 10
while len(ports) < 2 and time.monotonic() < deadline:
    session.wait_for_alert(500)
    for alert in session.pop_alerts():
        if isinstance(alert, libtorrent.portmap_alert):
            ports[str(alert.map_protocol)] = alert.external_port
        elif isinstance(alert, libtorrent.portmap_log_alert) and "<==" in alert.message():
            transports.add("PCP" if "transport: PCP" in alert.message() else "NAT-PMP")
print(json.dumps({"ports": ports, "transports": sorted(transports)}), flush=True)
sys.stdin.read()
