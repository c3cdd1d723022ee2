"""The edge process: width bank, frame sources, the agent that streams latents and answers every frame."""
