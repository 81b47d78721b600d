-- What an outbox keeps. Everything stands in the schema that comes first in the search path.
-- The time is what `instant` says and nothing else: no process' own clock decides what is due.
CREATE FUNCTION instant() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS 'SELECT statement_timestamp()';

-- What the clock of a process is off, by a time that it told: in seconds alone, because a day of an interval may have 23
-- hours, where the session's time zone changes its clocks.
CREATE FUNCTION skew(told timestamptz) RETURNS interval LANGUAGE sql STABLE PARALLEL SAFE BEGIN ATOMIC
  SELECT extract(epoch FROM instant() - told)::double precision * interval '1 second';
END;

-- A column of so many rows, of which one value is told where all are the same: every one costs on its way.
CREATE FUNCTION spread(values_ anyarray, rows_ integer) RETURNS anyarray LANGUAGE sql IMMUTABLE PARALLEL SAFE
  AS 'SELECT CASE cardinality($1) WHEN 1 THEN array_fill($1[1], ARRAY[$2]) ELSE $1 END';

-- What keys are compared by: a client chooses them, and an index takes no text of any length.
CREATE FUNCTION digest(VARIADIC parts text[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
  -- In a language that keeps its plans, as everything below that is called once for each row.
  RETURN sha256(convert_to(to_json(parts)::text, 'UTF8'));
END $$;

-- What was asked for. A row never changes, but for `expires_at` at a replay. Partitioned by the day in the UUIDv7, as
-- are results and attempts: what is old is forgotten by dropping a day.
CREATE TABLE delivery (
  id uuid NOT NULL,
  operation text NOT NULL,
  callback text NOT NULL,
  method text NOT NULL,
  url text NOT NULL,
  origin text NOT NULL,
  origin_key bigint NOT NULL,        -- a 64-bit hash of `origin`
  headers text,                      -- a JSON list of pairs; null for none
  body bytea,
  created_at timestamptz NOT NULL,
  due_at timestamptz NOT NULL,       -- as first asked for
  expires_at timestamptz,
  retry integer NOT NULL,            -- retry.id
  deadline bigint NOT NULL,          -- microseconds
  dedupe text,
  tags text,                         -- a JSON object; null for none
  subscription_key text,             -- null for what was sent at once
  subscription_owner text,
  generation integer,
  subscription bytea,                -- subscription.digest
  PRIMARY KEY (id)
) PARTITION BY RANGE (id);
-- A subscription's generation is remembered as long as what was sent to it.
CREATE INDEX delivery_subscription ON delivery (subscription) WHERE subscription IS NOT NULL;

-- What is still to be done: one row per delivery that is pending or sending, gone when it ends. It is small and changes
-- all the time, so it is vacuumed early, and leaves room on its pages.
CREATE TABLE queue (
  id uuid PRIMARY KEY,               -- delivery.id
  origin_key bigint NOT NULL,
  due_at timestamptz NOT NULL,       -- when it may be claimed: schedule, and end of the lease
  ready boolean NOT NULL,            -- `due_at` has passed, and a claim has seen it
  leased boolean NOT NULL DEFAULT false,  -- the newest fence may settle it, also when its lease has ended
  suspect boolean NOT NULL DEFAULT false, -- it may have killed its worker
  fence bigint NOT NULL DEFAULT 0,
  claims integer NOT NULL DEFAULT 0,
  attempts integer NOT NULL DEFAULT 0,
  run integer NOT NULL DEFAULT 1,
  reason text NOT NULL DEFAULT '',
  owner text,                        -- delivery.subscription_owner
  order_key text                     -- kept free: deliveries of one key in their order
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000,
        autovacuum_analyze_scale_factor = 0.1, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX queue_turn ON queue (ready, origin_key, due_at) WHERE NOT suspect;
CREATE INDEX queue_parked ON queue (due_at) WHERE NOT ready;
CREATE INDEX queue_suspect ON queue (due_at) WHERE suspect;
CREATE INDEX queue_owner ON queue (owner) WHERE owner IS NOT NULL;

-- How runs ended. Of a delivery that is not queued, the one that is `latest` says what it is.
CREATE TABLE result (
  delivery uuid NOT NULL,
  run integer NOT NULL,
  latest boolean NOT NULL DEFAULT true,
  state text NOT NULL,
  ended_at timestamptz NOT NULL,
  attempts integer NOT NULL,
  fence bigint NOT NULL,
  reason text NOT NULL,
  PRIMARY KEY (delivery, run)        -- one result per run, whatever happens
) PARTITION BY RANGE (delivery);
CREATE INDEX result_state ON result (state, delivery) WHERE latest;
CREATE INDEX result_ended ON result USING brin (ended_at) WITH (autosummarize = on, pages_per_range = 32);

CREATE TABLE attempt (
  delivery uuid NOT NULL,
  fence bigint NOT NULL,             -- of the claim that it was made under
  run integer NOT NULL,
  number integer NOT NULL,
  started_at timestamptz NOT NULL,
  duration bigint NOT NULL,          -- microseconds
  outcome text NOT NULL,
  status integer,
  detail text,                       -- JSON: what else the outcome says
  body bytea,                        -- the beginning of the answer's
  mismatch text,                     -- how an answer that accepts differs from the declared ones; null for not at all
  PRIMARY KEY (delivery, fence)
) PARTITION BY RANGE (delivery);

CREATE TABLE dedupe (
  digest bytea PRIMARY KEY,
  until timestamptz NOT NULL
);
CREATE INDEX dedupe_until ON dedupe (until);

CREATE TABLE subscription (
  digest bytea PRIMARY KEY,          -- of callback and key
  callback text NOT NULL,
  key text NOT NULL,
  owner text,
  generation integer NOT NULL,
  operation text NOT NULL,
  method text NOT NULL,
  url text NOT NULL,
  origin text NOT NULL,
  origin_key bigint NOT NULL,
  headers text,
  created_at timestamptz NOT NULL,
  expires_at timestamptz,
  ended_at timestamptz,              -- it is over; kept, so that its generation does not begin anew
  retry integer NOT NULL,
  deadline bigint NOT NULL,
  tags text
);
CREATE INDEX subscription_ended ON subscription (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX subscription_expires ON subscription (expires_at) WHERE expires_at IS NOT NULL;

-- Retry policies, each once: deliveries share a few.
CREATE TABLE retry (
  id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
  policy text NOT NULL,              -- JSON
  digest bytea NOT NULL UNIQUE,
  max_age bigint                     -- microseconds; of the policy
);

-- What processes share about a receiver that was claimed from as a newcomer, or has accepted something.
CREATE TABLE origin (
  origin_key bigint PRIMARY KEY,
  accepted_at timestamptz,           -- when it last accepted a delivery; null for never
  asked uuid                         -- what was claimed last while it had never accepted any
) WITH (fillfactor = 70);

-- One row: which outbox this is, and what is written to see whether writing works.
CREATE TABLE probe (
  id integer PRIMARY KEY CHECK (id = 1),
  identity uuid NOT NULL DEFAULT gen_random_uuid(),
  checked bigint NOT NULL DEFAULT 0
);
INSERT INTO probe (id) VALUES (1);
