"""The dashboard: what agents and servers do now, in a browser.

`follow` and `fleet` take the agents' events, `servers` what Prometheus would read, `alarms` judges both,
`app` answers browsers and agents. Nothing here is needed by an agent or a server. Reports look back, this
looks at the last two minutes.
"""
