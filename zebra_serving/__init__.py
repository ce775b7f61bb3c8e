"""The prediction server: `python -m zebra_serving --model NAME`.

    doors/ (protocols) -> dataplane (predict, one room behind every door) -> served (one version, ready)
    loader (ledger -> served)    capture (predictions -> events)    app (composition root)    routes (what people and probes ask)

Needs the contracts and the adapters of `zebra_assets`, and neither dagster nor evidently.
"""
