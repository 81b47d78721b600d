-- Settling: each applies only while its fence holds; the attempt of one that does not is kept all the same.
--
-- Arrays of one length, or empty where they would say nothing: each is looked at element by element on its way. What
-- has no outcome was not attempted.
CREATE FUNCTION settle(ids uuid[], fences bigint[], verdicts text[], afters bigint[], reasons text[], gone boolean[],
  runs integer[], numbers integer[], started timestamptz[], durations bigint[], outcomes text[], statuses integer[],
  details text[], bodies bytea[], mismatches text[], told timestamptz)
RETURNS TABLE (id uuid, fence bigint, freed boolean)
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
  now_ constant timestamptz := instant();
  held_ids uuid[];
  held_fences bigint[];
  held_freed boolean[];
  accepting bigint[];
  leaving uuid[];
BEGIN
  WITH given AS (
    SELECT DISTINCT ON (g.id, g.fence) g.id, g.fence, g.verdict, coalesce(g.after_, 0) AS after_,
      coalesce(g.reason, '') AS reason, g.gone, g.outcome IS NOT NULL AS attempted
    FROM unnest(ids, fences, verdicts, afters, reasons, gone, outcomes) WITH ORDINALITY
      g(id, fence, verdict, after_, reason, gone, outcome, place)
    ORDER BY g.id, g.fence, g.place
  ), held AS MATERIALIZED (
    SELECT q.id, q.fence, q.run, q.origin_key, q.claims, q.attempts, g.verdict, g.after_, g.reason, g.gone, g.attempted,
      q.attempts + g.attempted::integer AS made
    FROM queue q JOIN given g ON g.id = q.id AND g.fence = q.fence
    WHERE q.id = ANY (ids) AND q.leased ORDER BY q.id FOR UPDATE OF q
  ), ended AS (
    DELETE FROM queue q USING held h WHERE q.id = h.id AND h.verdict IN ('delivered', 'dead')
  ), told AS (
    INSERT INTO result (delivery, run, state, ended_at, attempts, fence, reason)
    SELECT h.id, h.run, h.verdict, now_, h.made, h.fence, h.reason FROM held h WHERE h.verdict IN ('delivered', 'dead')
  ), waiting AS (
    UPDATE queue q SET leased = false, due_at = now_ + h.after_ * interval '1 microsecond', ready = h.after_ <= 0,
      attempts = h.made, reason = CASE h.verdict WHEN 'retry' THEN h.reason ELSE q.reason END,
      claims = w.claims, suspect = w.claims > h.made
    FROM held h, LATERAL (
      SELECT CASE WHEN h.attempted THEN h.made WHEN h.verdict = 'released' THEN h.claims - 1 ELSE h.claims END AS claims
    ) w
    WHERE q.id = h.id AND h.verdict IN ('retry', 'released')
  )
  SELECT array_agg(h.id), array_agg(h.fence),
    -- One suspect that is settled lets the next one go; and one of a newcomer's.
    array_agg(h.claims - h.attempts > 1 OR EXISTS (
      SELECT FROM origin o WHERE o.origin_key = h.origin_key AND o.asked = h.id)),
    array_agg(DISTINCT h.origin_key) FILTER (WHERE h.verdict = 'delivered'),
    array_agg(h.id) FILTER (WHERE h.gone AND h.verdict = 'dead')
  INTO held_ids, held_fences, held_freed, accepting, leaving FROM held h;

  IF accepting IS NOT NULL THEN
    INSERT INTO origin AS o (origin_key, accepted_at)
    SELECT key, now_ FROM unnest(accepting) key
    WHERE NOT EXISTS (SELECT FROM origin WHERE origin_key = key AND accepted_at IS NOT NULL) ORDER BY key
    ON CONFLICT (origin_key) DO UPDATE SET accepted_at = excluded.accepted_at, asked = NULL;
    -- Of those that have accepted before, whoever is first writes it down: workers do not wait for each other here.
    UPDATE origin o SET accepted_at = now_
    FROM (SELECT f.origin_key FROM origin f WHERE f.origin_key = ANY (accepting) AND f.accepted_at < now_
      FOR UPDATE SKIP LOCKED) free
    WHERE o.origin_key = free.origin_key;
  END IF;

  IF leaving IS NOT NULL THEN
    -- One that somebody's transaction is changing is left as it is, for as long as that goes on: the next delivery to it
    -- hears the same, and no worker waits.
    UPDATE subscription s SET ended_at = now_ FROM (
      SELECT held.digest FROM subscription held JOIN delivery d ON held.digest = d.subscription
      WHERE d.id = ANY (leaving) AND held.owner IS NOT DISTINCT FROM d.subscription_owner
        AND held.generation = d.generation AND held.ended_at IS NULL
      FOR UPDATE OF held SKIP LOCKED
    ) quit WHERE s.digest = quit.digest;
  END IF;

  -- One attempt for each fence, however often it is told, of deliveries that are not forgotten.
  INSERT INTO attempt (delivery, fence, run, number, started_at, duration, outcome, status, detail, body, mismatch)
  SELECT a.id, a.fence, a.run, a.number, a.started + skew(told), a.duration, a.outcome, a.status, a.detail, a.body,
    a.mismatch
  FROM unnest(ids, fences, runs, numbers, started, durations, outcomes, statuses, details, bodies, mismatches)
    a(id, fence, run, number, started, duration, outcome, status, detail, body, mismatch)
  WHERE a.outcome IS NOT NULL AND (a.id = ANY (held_ids) OR EXISTS (SELECT FROM delivery d WHERE d.id = a.id))
  ORDER BY a.id, a.fence
  ON CONFLICT (delivery, fence) DO NOTHING;

  RETURN QUERY SELECT * FROM unnest(held_ids, held_fences, held_freed);
END $$;

-- Never attempt a delivery again, unless it is replayed. Whether it was queued.
CREATE FUNCTION cancel(which uuid) RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  WITH gone AS (DELETE FROM queue WHERE id = which RETURNING *)
  INSERT INTO result (delivery, run, state, ended_at, attempts, fence, reason)
  SELECT id, run, 'cancelled', instant(), attempts, fence, reason FROM gone;
  RETURN FOUND;
END $$;

-- Begin new runs of those of these that have ended, of each origin so far apart, after as many as were begun before.
-- How many of each origin.
CREATE FUNCTION replay(ids uuid[], spacing bigint, before_origins bigint[], before_counts bigint[])
RETURNS TABLE (origin_key bigint, begun bigint) LANGUAGE sql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
  WITH given AS (
    SELECT g.id, g.place FROM unnest(ids) WITH ORDINALITY g(id, place)
  ), ended AS (
    UPDATE result r SET latest = false FROM (
      SELECT l.delivery, l.run FROM result l JOIN given ON given.id = l.delivery WHERE l.latest ORDER BY l.delivery
      FOR UPDATE OF l
    ) l WHERE r.delivery = l.delivery AND r.run = l.run
    RETURNING r.delivery, r.run, r.fence
  ), again AS (
    SELECT d.id, d.origin_key, d.subscription_owner AS owner, e.run + 1 AS run, e.fence, p.max_age,
      instant() + spacing * interval '1 microsecond' * (
        coalesce(before_counts[array_position(before_origins, d.origin_key)], 0)
        + row_number() OVER (PARTITION BY d.origin_key ORDER BY given.place) - 1
      ) AS due_at
    FROM ended e JOIN delivery d ON d.id = e.delivery JOIN given ON given.id = d.id JOIN retry p ON p.id = d.retry
  ), queued AS (
    INSERT INTO queue (id, origin_key, due_at, ready, fence, run, owner)
    SELECT a.id, a.origin_key, a.due_at, a.due_at <= instant(), a.fence, a.run, a.owner FROM again a
  ), renewed AS (
    UPDATE delivery d SET expires_at = a.due_at + a.max_age * interval '1 microsecond' FROM again a
    WHERE d.id = a.id AND a.max_age IS NOT NULL
  )
  SELECT a.origin_key, count(*) FROM again a GROUP BY a.origin_key
$$;

-- Forget deliveries that ended before a moment, attempts included; keys, subscriptions and receivers that are over.
-- It waits for nobody: what others use at this moment is left for another time.
CREATE FUNCTION prune(before timestamptz, most integer) RETURNS integer LANGUAGE plpgsql
  SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
  now_ constant timestamptz := instant();
  old uuid[];
  unknown bigint[];
  anywhere constant bigint := (random() - 0.5) * 18446744073709549568;
BEGIN
  -- What a crash brings back is forgotten again.
  PERFORM set_config('synchronous_commit', 'off', true);
  old := ARRAY(SELECT delivery FROM result WHERE latest AND ended_at < before LIMIT most FOR UPDATE SKIP LOCKED);
  DELETE FROM attempt WHERE delivery = ANY (old);
  DELETE FROM result WHERE delivery = ANY (old);
  DELETE FROM delivery WHERE id = ANY (old);
  DELETE FROM dedupe WHERE digest IN (SELECT digest FROM dedupe WHERE until <= now_ LIMIT 500 FOR UPDATE SKIP LOCKED);
  DELETE FROM subscription WHERE digest IN (
    SELECT s.digest FROM subscription s WHERE (s.ended_at < before OR s.expires_at < least(before, now_))
    AND NOT EXISTS (SELECT FROM delivery d WHERE d.subscription = s.digest) LIMIT 500 FOR UPDATE OF s SKIP LOCKED);
  -- One that never accepted anything, and has nothing queued, is as good as unknown. Some are looked at, from anywhere
  -- on: in time all are. Twice, because until it is locked a claim may ask it for something.
  unknown := ARRAY(
    SELECT o.origin_key FROM (
      (SELECT * FROM origin WHERE origin_key >= anywhere ORDER BY origin_key LIMIT 5000)
      UNION ALL (SELECT * FROM origin WHERE origin_key < anywhere ORDER BY origin_key LIMIT 5000)
    ) few JOIN origin o ON o.origin_key = few.origin_key
    WHERE (o.accepted_at IS NULL OR o.accepted_at < before) AND live(o.origin_key, 1) = 0 LIMIT 500
    FOR UPDATE OF o SKIP LOCKED);
  DELETE FROM origin WHERE origin_key = ANY (unknown) AND live(origin_key, 1) = 0;
  RETURN cardinality(old);
END $$;
