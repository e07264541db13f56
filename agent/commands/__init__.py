"""What ``voice-agent COMMAND`` does, a module for each command. Each returns its exit code or raises ``AgentError``."""
