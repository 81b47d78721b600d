-- Storing what was staged, on any connection, in one statement: an outbox' own, or its user's in the middle of theirs.
--
-- Who is called from outside sets the search path for all whom it calls.

CREATE FUNCTION retry_id(text, bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  found_id integer;
BEGIN
  LOOP
    SELECT id INTO found_id FROM retry WHERE digest = digest($1);
    IF found_id IS NOT NULL THEN
      RETURN found_id;
    END IF;
    INSERT INTO retry (policy, digest, max_age) VALUES ($1, digest($1), $2) ON CONFLICT DO NOTHING;
  END LOOP;
END $$;

-- The number of what is to be retried how; where it was learnt before, without a look.
CREATE FUNCTION policy(one json) RETURNS integer LANGUAGE plpgsql AS $$
BEGIN
  RETURN coalesce((one->>'retry_id')::integer, retry_id(one->>'retry', (one->>'max_age')::bigint));
END $$;

-- Whether a delivery's dedupe key was free, and is used from now on.
CREATE FUNCTION admit(key bytea, now_ timestamptz) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO dedupe AS held (digest, until) VALUES (key, now_ + interval '24 hours')
  ON CONFLICT (digest) DO UPDATE SET until = excluded.until WHERE held.until <= now_;
  RETURN FOUND;
END $$;

-- One delivery of a batch: 'stored', 'duplicate', a bound's name, or null for an id that is known.
CREATE FUNCTION put_delivery(one delivery, bounds json, now_ timestamptz) RETURNS text LANGUAGE plpgsql
  AS $$
DECLARE
  full_ text;
  used bytea;
BEGIN
  IF EXISTS (SELECT FROM delivery WHERE id = one.id) THEN
    RETURN NULL;
  END IF;
  IF one.dedupe IS NOT NULL THEN
    used := CASE WHEN one.subscription IS NULL THEN digest(one.operation, one.callback, one.dedupe)
      ELSE digest(one.operation, one.callback, one.dedupe, one.subscription_key, one.subscription_owner) END;
  END IF;
  IF bounds IS NOT NULL THEN
    full_ := refusal(bounds, one.origin_key, one.subscription_owner);
    IF full_ IS NOT NULL AND NOT coalesce((SELECT until > now_ FROM dedupe WHERE digest = used), false) THEN
      RETURN full_;
    END IF;
  END IF;
  IF used IS NOT NULL AND NOT admit(used, now_) THEN
    RETURN 'duplicate';
  END IF;
  INSERT INTO delivery SELECT one.* ON CONFLICT (id) DO NOTHING;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  INSERT INTO queue (id, origin_key, due_at, ready, owner)
  VALUES (one.id, one.origin_key, one.due_at, one.due_at <= greatest(one.created_at, now_), one.subscription_owner);
  RETURN 'stored';
END $$;

-- Make a subscription, or replace the same owner's. False where the key is another owner's, and in force.
CREATE FUNCTION subscribe(one json, skew interval, now_ timestamptz) RETURNS boolean LANGUAGE plpgsql
  AS $$
BEGIN
  INSERT INTO subscription AS held (digest, callback, key, owner, generation, operation, method, url, origin, origin_key,
    headers, created_at, expires_at, retry, deadline, tags)
  VALUES (digest(one->>'callback', one->>'key'), one->>'callback', one->>'key', one->>'owner', 1, one->>'operation',
    one->>'method', one->>'url', one->>'origin', (one->>'origin_key')::bigint, one->>'headers',
    (one->>'created_at')::timestamptz + skew, (one->>'expires_at')::timestamptz + skew,
    policy(one), (one->>'deadline')::bigint, one->>'tags')
  ON CONFLICT (digest) DO UPDATE SET owner = excluded.owner, generation = held.generation + 1,
    operation = excluded.operation, method = excluded.method, url = excluded.url, origin = excluded.origin,
    origin_key = excluded.origin_key, headers = excluded.headers, created_at = excluded.created_at,
    expires_at = excluded.expires_at, ended_at = NULL, retry = excluded.retry, deadline = excluded.deadline,
    tags = excluded.tags
  WHERE held.owner IS NOT DISTINCT FROM excluded.owner OR held.ended_at IS NOT NULL OR held.expires_at <= now_;
  RETURN FOUND;
END $$;

-- What a notification becomes, sent where its subscription says at this moment; null where nobody subscribed.
CREATE FUNCTION notified(one json, skew interval, now_ timestamptz) RETURNS delivery LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
  found_ delivery;
BEGIN
  SELECT (one->>'id')::uuid, operation, callback, method, url, origin, origin_key,
    -- Lists and objects as JSON are joined as text: of two values of one name the last one, the notification's, counts.
    CASE WHEN headers IS NULL THEN one->>'headers' WHEN one->>'headers' IS NULL THEN headers
      ELSE left(one->>'headers', -1) || ',' || substr(headers, 2) END,
    decode(one->>'body', 'base64'), (one->>'created_at')::timestamptz + skew, (one->>'due_at')::timestamptz + skew,
    (one->>'due_at')::timestamptz + skew + max_age * interval '1 microsecond', held.retry, deadline, one->>'dedupe',
    CASE WHEN tags IS NULL THEN one->>'tags' WHEN one->>'tags' IS NULL THEN tags
      ELSE left(tags, -1) || ',' || substr(one->>'tags', 2) END,
    key, owner, generation, held.digest
  INTO found_ FROM subscription held JOIN retry ON retry.id = held.retry
  WHERE held.digest = digest(one->>'callback', one->>'key') AND owner IS NOT DISTINCT FROM one->>'owner'
    AND ended_at IS NULL AND (expires_at IS NULL OR expires_at > now_);
  RETURN found_;
END $$;

CREATE FUNCTION asked(one json, skew interval) RETURNS delivery LANGUAGE plpgsql AS $$
DECLARE
  made delivery;
BEGIN
  SELECT (one->>'id')::uuid, one->>'operation', one->>'callback', one->>'method', one->>'url', one->>'origin',
    (one->>'origin_key')::bigint, one->>'headers', decode(one->>'body', 'base64'),
    (one->>'created_at')::timestamptz + skew, (one->>'due_at')::timestamptz + skew,
    (one->>'expires_at')::timestamptz + skew, policy(one),
    (one->>'deadline')::bigint, one->>'dedupe', one->>'tags', one->>'subscription_key', one->>'subscription_owner',
    (one->>'generation')::integer,
    CASE WHEN one->>'subscription_key' IS NOT NULL THEN digest(one->>'callback', one->>'subscription_key') END
  INTO made;
  RETURN made;
END $$;

CREATE FUNCTION put_one(batch json, skew interval, now_ timestamptz, bounds json) RETURNS json LANGUAGE plpgsql
  AS $$
DECLARE
  one json;
  wanted delivery;
  became text;
  report jsonb := '{"stored": [], "duplicates": [], "unsubscribed": [], "refused": []}';
  place integer := 0;
BEGIN
  FOR one IN SELECT value FROM json_array_elements(batch->'subscribe') LOOP
    IF NOT subscribe(one, skew, now_) THEN
      RAISE EXCEPTION USING ERRCODE = 'CM001', MESSAGE = 'the key is subscribed by another owner', DETAIL = place;
    END IF;
    place := place + 1;
  END LOOP;
  FOR one IN SELECT value FROM json_array_elements(batch->'deliveries')
    UNION ALL SELECT value FROM json_array_elements(batch->'notify') LOOP
    wanted := CASE WHEN one->>'url' IS NULL THEN notified(one, skew, now_) ELSE asked(one, skew) END;
    IF wanted.id IS NULL THEN
      IF NOT EXISTS (SELECT FROM delivery WHERE id = (one->>'id')::uuid) THEN
        report := jsonb_insert(report, '{unsubscribed,-1}', to_jsonb(one->>'id'), true);
      END IF;
      CONTINUE;
    END IF;
    became := put_delivery(wanted, bounds, now_);
    IF became = 'stored' THEN
      report := jsonb_insert(report, '{stored,-1}', to_jsonb(one->>'id'), true);
    ELSIF became = 'duplicate' THEN
      report := jsonb_insert(report, '{duplicates,-1}', to_jsonb(one->>'id'), true);
    ELSIF became IS NOT NULL THEN
      report := jsonb_insert(report, '{refused,-1}', jsonb_build_array(wanted.id, became, wanted.origin), true);
    END IF;
  END LOOP;
  UPDATE subscription held SET ended_at = now_ FROM json_array_elements(batch->'end') gone
  WHERE held.digest = ANY (ARRAY[digest(gone.value->>'callback', gone.value->>'key')])
    AND held.owner IS NOT DISTINCT FROM gone.value->>'owner' AND held.ended_at IS NULL;
  RETURN report;
END $$;

-- Store batches, each whole or not at all. A report for each; {"taken": n} where its subscription n is another owner's.
CREATE FUNCTION put_batches(batches json, told timestamptz, bounds json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
  now_ constant timestamptz := instant();
  -- What the clock of the process is off: its times are told in it.
  skew constant interval := skew(told);
  batch json;
  report json;
  reports json[] := '{}';
  taken text;
BEGIN
  FOR batch IN SELECT value FROM json_array_elements(batches) LOOP
    BEGIN
      report := put_one(batch, skew, now_, bounds);
    EXCEPTION WHEN SQLSTATE 'CM001' THEN
      GET STACKED DIAGNOSTICS taken = PG_EXCEPTION_DETAIL;
      report := json_build_object('taken', taken::integer);
    END;
    reports := reports || report;
  END LOOP;
  RETURN array_to_json(reports);
END $$;

-- The same, on a connection of the outbox' own. Of the same key only one transaction stores at a time, and somebody's own
-- may be open for long: a burst is not to wait for it, nor two bursts for each other until the server finds that out.
CREATE FUNCTION put_each(batches json, told timestamptz, bounds json) RETURNS json LANGUAGE sql
  SET search_path FROM CURRENT SET enable_seqscan = off SET lock_timeout = '400ms'
  AS 'SELECT put_batches($1, $2, $3)';

-- The number of a retry policy, which is remembered if it is new.
CREATE FUNCTION learn_retry(policy text, max_age bigint) RETURNS integer LANGUAGE sql
  SET search_path FROM CURRENT SET enable_seqscan = off AS 'SELECT retry_id($1, $2)';

-- Store a batch in the transaction of whoever calls, which is the one that they have just named; else why not.
--
-- With what its owner may: whoever may call it need not be able to read what others have stored.
CREATE FUNCTION put_joined(batch json, told timestamptz, bounds json, joined text, whose uuid) RETURNS json
  LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
  number constant bigint := pg_current_xact_id()::text;
  report json;
  part bigint;
BEGIN
  IF number::text <> joined THEN
    RETURN '{"refused": "no transaction"}'::json;
  ELSIF current_setting('synchronous_commit') = 'off' THEN
    RETURN '{"refused": "synchronous_commit"}'::json;
  ELSIF whose IS DISTINCT FROM (SELECT identity FROM probe) THEN
    RETURN '{"refused": "elsewhere"}'::json;
  END IF;
  report := put_batches(json_build_array(batch), told, bounds)->0;
  -- It was stored in a part of the transaction, whose number stands at what was written: a savepoint of the user's may
  -- take back that part alone. Numbers of rows are 32 bits long, and a part's is above its transaction's; what is below
  -- was there before.
  SELECT min(after_) INTO part FROM (
    SELECT (written.xmin::text::bigint - number) & 4294967295 AS after_ FROM (
      SELECT xmin FROM queue WHERE id = (report->'stored'->>0)::uuid
      UNION ALL
      SELECT s.xmin FROM (
        SELECT value FROM json_array_elements(batch->'subscribe')
        UNION ALL SELECT value FROM json_array_elements(batch->'end')
      ) changed JOIN subscription s
        ON s.digest = ANY (ARRAY[digest(changed.value->>'callback', changed.value->>'key')])
    ) written
  ) numbered WHERE after_ < 2147483648;
  RETURN json_build_object('report', report, 'within', (number + part)::text);
END $$;
REVOKE EXECUTE ON FUNCTION put_joined FROM PUBLIC;
