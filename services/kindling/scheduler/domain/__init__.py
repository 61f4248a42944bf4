"""The policy: pure code over values, (view, request, now) to decision."""
