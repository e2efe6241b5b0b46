"""What every other package stands on: errors, environment, dispatch, settings, versions, files."""
