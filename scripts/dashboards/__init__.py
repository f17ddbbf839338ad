"""The dashboards of grafana/, as data and as what Grafana reads: `python -m scripts.dashboards`."""
