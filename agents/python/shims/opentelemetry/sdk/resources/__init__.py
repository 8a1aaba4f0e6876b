"""Names of attributes."""

DEPLOYMENT_ENVIRONMENT = "deployment.environment"
SERVICE_NAME = "service.name"
TELEMETRY_SDK_NAME = "telemetry.sdk.name"
