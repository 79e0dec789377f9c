"""What Prometheus sees of a run: every metric by name, and the dashboards made of them."""
