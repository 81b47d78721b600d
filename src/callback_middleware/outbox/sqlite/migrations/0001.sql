-- What was asked for. A row never changes, but for `expires_at` at a replay. Times are microseconds since 1970 in UTC.
CREATE TABLE delivery (
  seq INTEGER PRIMARY KEY,           -- in the order in which they were put
  id BLOB NOT NULL UNIQUE,           -- UUIDv7, so that the index grows at its end
  operation TEXT NOT NULL,
  callback TEXT NOT NULL,
  method TEXT NOT NULL,
  url TEXT NOT NULL,
  origin TEXT NOT NULL,
  origin_key INTEGER NOT NULL,       -- a 64-bit hash of `origin`
  headers TEXT,                      -- a JSON list of pairs; null for none
  body BLOB,
  created_at INTEGER NOT NULL,
  due_at INTEGER NOT NULL,           -- as first asked for
  expires_at INTEGER,
  retry INTEGER NOT NULL,            -- retry.id
  deadline INTEGER NOT NULL,         -- microseconds
  dedupe TEXT,
  tags TEXT,                         -- a JSON object; null for none
  subscription_key TEXT,             -- null for what was sent at once
  subscription_owner TEXT,
  generation INTEGER
);
-- A subscription's generation is remembered as long as what was sent to it.
CREATE INDEX delivery_notified ON delivery (callback, subscription_key) WHERE subscription_key IS NOT NULL;

-- What is still to be done: one row per delivery that is pending or sending, gone when it ends.
-- A delivery is put once: its queue row is the trigger's, and so cannot be made for an id that is known.
CREATE TABLE queue (
  seq INTEGER PRIMARY KEY,           -- delivery.seq
  origin_key INTEGER NOT NULL,
  due_at INTEGER NOT NULL,           -- when it may be claimed: schedule, and end of the lease
  ready INTEGER NOT NULL,            -- 1: `due_at` has passed, and a claim has seen it
  leased INTEGER NOT NULL DEFAULT 0, -- 1: the newest fence may settle it, also when its lease has ended
  suspect INTEGER NOT NULL DEFAULT 0,-- 1: it may have killed its worker
  fence INTEGER NOT NULL DEFAULT 0,
  claims INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  run INTEGER NOT NULL DEFAULT 1,
  reason TEXT NOT NULL DEFAULT '',
  order_key TEXT,                    -- kept free: deliveries of one key in their order
  owner TEXT                         -- delivery.subscription_owner
);
CREATE INDEX queue_ready ON queue (origin_key, due_at) WHERE ready = 1 AND suspect = 0;
CREATE INDEX queue_parked ON queue (due_at) WHERE ready = 0;
CREATE INDEX queue_suspect ON queue (due_at) WHERE suspect = 1;

CREATE TRIGGER delivery_is_queued AFTER INSERT ON delivery BEGIN
  INSERT INTO queue (seq, origin_key, due_at, ready, owner)
  VALUES (new.seq, new.origin_key, new.due_at, new.due_at <= new.created_at, new.subscription_owner);
END;

-- How runs ended. Of a delivery that is not queued, the one that is `latest` says what it is.
CREATE TABLE result (
  delivery INTEGER NOT NULL,         -- delivery.seq
  run INTEGER NOT NULL,
  latest INTEGER NOT NULL DEFAULT 1,
  state TEXT NOT NULL,
  ended_at INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  fence INTEGER NOT NULL,
  reason TEXT NOT NULL,
  UNIQUE (delivery, run)             -- one result per run, whatever happens
);
CREATE INDEX result_state ON result (state, delivery) WHERE latest = 1;

CREATE TABLE attempt (
  delivery INTEGER NOT NULL,         -- delivery.seq
  fence INTEGER NOT NULL,            -- of the claim that it was made under
  run INTEGER NOT NULL,
  number INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  duration INTEGER NOT NULL,         -- microseconds
  outcome TEXT NOT NULL,
  status INTEGER,
  detail TEXT,                       -- JSON: what else the outcome says
  body BLOB,                         -- the beginning of the answer's
  mismatch TEXT,                     -- how an answer that accepts differs from the declared ones; null for not at all
  UNIQUE (delivery, fence)
);

CREATE TABLE dedupe (
  operation TEXT NOT NULL,
  callback TEXT NOT NULL,
  key TEXT NOT NULL,
  subscribed TEXT NOT NULL,          -- a JSON list of a subscription's key and owner; empty for what was sent at once
  until INTEGER NOT NULL,
  UNIQUE (operation, callback, key, subscribed)
);
CREATE INDEX dedupe_until ON dedupe (until);

CREATE TABLE subscription (
  seq INTEGER PRIMARY KEY,
  callback TEXT NOT NULL,
  key TEXT NOT NULL,
  owner TEXT,
  generation INTEGER NOT NULL,
  operation TEXT NOT NULL,
  method TEXT NOT NULL,
  url TEXT NOT NULL,
  origin TEXT NOT NULL,
  headers TEXT,
  created_at INTEGER NOT NULL,
  expires_at INTEGER,
  ended_at INTEGER,                  -- it is over; kept, so that its generation does not begin anew
  retry INTEGER NOT NULL,
  deadline INTEGER NOT NULL,
  tags TEXT,
  UNIQUE (callback, key)
);
CREATE INDEX subscription_ended ON subscription (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX subscription_expires ON subscription (expires_at) WHERE expires_at IS NOT NULL;

-- Retry policies, each once: deliveries share a few.
CREATE TABLE retry (
  id INTEGER PRIMARY KEY,
  policy TEXT NOT NULL UNIQUE        -- JSON
);

-- What processes share about a receiver: a row for each that has something in the queue, or has accepted something.
CREATE TABLE origin (
  origin_key INTEGER PRIMARY KEY,
  live INTEGER NOT NULL,             -- its rows in the queue
  accepted_at INTEGER NOT NULL DEFAULT 0, -- when it last accepted a delivery; 0 for never
  asked INTEGER,                     -- delivery.seq that was claimed last while it had never accepted any
  open_until INTEGER,
  ramp INTEGER,
  consent_until INTEGER
);
CREATE INDEX origin_idle ON origin (accepted_at) WHERE live = 0;

-- A row for each owner that has something in the queue.
CREATE TABLE owner (
  owner TEXT NOT NULL UNIQUE,
  live INTEGER NOT NULL
);

-- What is live is counted where it comes and goes, so that nobody else has to think of it.
CREATE TRIGGER queue_counts_origin AFTER INSERT ON queue BEGIN
  INSERT INTO origin (origin_key, live) VALUES (new.origin_key, 1)
  ON CONFLICT (origin_key) DO UPDATE SET live = live + 1;
END;
CREATE TRIGGER queue_counts_origin_down AFTER DELETE ON queue BEGIN
  UPDATE origin SET live = live - 1 WHERE origin_key = old.origin_key;
END;
CREATE TRIGGER queue_counts_owner AFTER INSERT ON queue WHEN new.owner IS NOT NULL BEGIN
  INSERT INTO owner (owner, live) VALUES (new.owner, 1)
  ON CONFLICT (owner) DO UPDATE SET live = live + 1;
END;
CREATE TRIGGER queue_counts_owner_down AFTER DELETE ON queue WHEN old.owner IS NOT NULL BEGIN
  UPDATE owner SET live = live - 1 WHERE owner = old.owner;
  DELETE FROM owner WHERE owner = old.owner AND live = 0;
END;

-- One row: which boot of the machine, and where the wall clock stood, when times were last compared.
CREATE TABLE clock (
  id INTEGER PRIMARY KEY CHECK (id = 1),
  boot TEXT NOT NULL,
  ahead INTEGER NOT NULL,            -- microseconds that the wall clock is ahead of the time since boot
  checked INTEGER NOT NULL DEFAULT 0 -- counts the writes that were made to see whether writing works
);
