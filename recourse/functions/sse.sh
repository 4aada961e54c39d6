#!/bin/sh
# What the Lambda Web Adapter starts. boto3 is the runtime's own, and lies where the runtime has it.
export PYTHONPATH="$LAMBDA_TASK_ROOT:$LAMBDA_RUNTIME_DIR"
exec python3 -m uvicorn recourse.functions.sse:app --host 127.0.0.1 --port "$AWS_LWA_PORT" \
    --lifespan off --no-access-log --no-server-header --timeout-keep-alive 65
