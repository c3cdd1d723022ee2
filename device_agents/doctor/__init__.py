"""Is this device fit to run an agent, and the way to its servers? Findings with remedies."""

from isthmus.device_agents.doctor.finding import Finding, Level
from isthmus.device_agents.doctor.machine import examine_machine
from isthmus.device_agents.doctor.servers import examine_server
from isthmus.device_agents.doctor.setup import examine_setup

__all__ = ["Finding", "Level", "examine_machine", "examine_server", "examine_setup"]
