-- How many deliveries of each of these origins may be claimed: of a newcomer one at a time, whoever has it. Those that
-- are busy are in their order: there may be thousands of them, and each is looked for in a few steps.
CREATE FUNCTION rooms(keys bigint[], per_origin integer, welcoming boolean, busy_origins bigint[], busy_counts integer[])
RETURNS TABLE (key bigint, place bigint, room integer, newcomer boolean) LANGUAGE sql STABLE BEGIN ATOMIC
  SELECT v.key, v.place,
    CASE WHEN NOT n.newcomer THEN greatest(per_origin - b.busy, 0)
      WHEN (SELECT q.leased AND NOT q.ready FROM queue q WHERE q.id = o.asked) THEN 0
      ELSE greatest(least(per_origin, 1) - b.busy, 0) END,
    n.newcomer
  FROM unnest(keys) WITH ORDINALITY v(key, place)
    LEFT JOIN origin o ON o.origin_key = ANY (ARRAY[v.key])
    CROSS JOIN LATERAL (SELECT welcoming AND o.accepted_at IS NULL AS newcomer) n
    CROSS JOIN LATERAL (SELECT width_bucket(v.key, busy_origins) AS place) found
    CROSS JOIN LATERAL (
      SELECT CASE WHEN busy_origins[found.place] = v.key THEN busy_counts[found.place] ELSE 0 END AS busy
    ) b;
END;

-- Microseconds until something that is not due comes due; null for nothing.
CREATE FUNCTION until_next(now_ timestamptz) RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC
  -- Not their minimum: whoever plans may take it of all of them.
  SELECT (extract(epoch FROM q.due_at - now_) * 1000000)::bigint FROM queue q
  WHERE NOT q.ready ORDER BY q.due_at LIMIT 1;
END;

-- Claiming: what is due, origin by origin in turn, leased under a new fence until `ends`; and suspects, each alone.
--
-- Arrays of one length, or null for nothing. `reached` is the last origin that something was leased of; or, if nothing
-- was, and so many origins were looked at that the round was not ended, the last of them. `later` is how long it is
-- until something comes due, and `buried` what is dead now.
--
-- Whole in one call, because a worker may be stopped between any two of its packets: what it would hold meanwhile,
-- nobody else could claim. Claims take turns (an advisory lock): that at most one suspect, and one delivery of a
-- newcomer, is out is a matter of all workers, and each statement below must see what the claim before has done.
--
-- Rows are found by `= ANY (ARRAY[…])`, here and in what is below, and not by `=`: a plan can only look for each then.
-- With `=`, or EXISTS, it may also read all that is queued and look for each row of it among these: as good as the other
-- where next to nothing is queued, and kept when much is.
CREATE FUNCTION claim(most integer, lease interval, per_origin integer, busy_origins bigint[], busy_counts integer[],
  welcoming boolean, after_ bigint, suspicions integer, reason_ text,
  OUT ids uuid[], OUT fences bigint[], OUT made integer[], OUT runs integer[], OUT reasons text[], OUT newcomers boolean[],
  OUT ends timestamptz, OUT reached bigint, OUT later bigint, OUT buried uuid[])
LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET enable_hashjoin = off
  SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan SET lock_timeout = '5s' AS $$
#variable_conflict use_column
DECLARE
  now_ constant timestamptz := instant();
  -- Rises at every claim, also where a crash of the database took the one before it back.
  next_fence constant bigint := (extract(epoch FROM clock_timestamp()) * 1000000)::bigint;
  plenty boolean;
  waking boolean;
  suspecting boolean;
  keys bigint[] := '{}';
  firsts uuid[] := '{}';
  spare integer[] := '{}';
  news boolean[] := '{}';
  chosen uuid[];
  chosen_news boolean[];
  visited bigint[];
  visited_first uuid[];
  lowest constant bigint := -9223372036854775808;
  highest constant bigint := 9223372036854775807;
  wrapped boolean := after_ = highest;
  first_ bigint := CASE WHEN after_ = highest THEN lowest ELSE after_ + 1 END;
  last_ bigint;
  looked integer := 0;
  share integer;
  steps constant integer := least(greatest(most, 32), 256);
BEGIN
  SELECT EXISTS (SELECT FROM queue q WHERE q.ready AND NOT q.suspect),
    EXISTS (SELECT FROM queue q WHERE NOT q.ready AND q.due_at <= now_),
    EXISTS (SELECT FROM queue q WHERE q.suspect AND q.ready)
  INTO plenty, waking, suspecting;
  IF NOT (plenty OR waking OR suspecting) THEN
    later := until_next(now_);
    RETURN;
  END IF;
  -- A claim that a crash of the database takes back is made again: what it is for is sent twice, and nothing is lost.
  PERFORM set_config('synchronous_commit', 'off', true),
    pg_advisory_xact_lock(hashtextextended('callback_middleware claims', 'queue'::regclass::oid::bigint));

  IF waking THEN
    UPDATE queue q SET ready = true, suspect = q.claims > q.attempts
    FROM (SELECT w.id FROM queue w WHERE NOT w.ready AND w.due_at <= now_ ORDER BY w.due_at LIMIT 1000
      FOR UPDATE SKIP LOCKED) woken
    WHERE q.id = ANY (ARRAY[woken.id]);
  END IF;

  IF waking OR suspecting THEN
    WITH dead AS (
      DELETE FROM queue q USING (SELECT b.id FROM queue b
        WHERE b.suspect AND b.ready AND b.claims - b.attempts >= suspicions LIMIT 1000 FOR UPDATE SKIP LOCKED) found
      WHERE q.id = ANY (ARRAY[found.id])
      RETURNING q.*
    ), told AS (
      INSERT INTO result (delivery, run, state, ended_at, attempts, fence, reason)
      SELECT d.id, d.run, 'dead', now_, d.attempts, d.fence, reason_ FROM dead d
    )
    SELECT array_agg(d.id) INTO buried FROM dead d;

    -- A suspect, if none is out: the first that there is room for, and nothing beside it.
    IF NOT EXISTS (SELECT FROM queue q WHERE q.suspect AND NOT q.ready AND q.leased) THEN
      SELECT array_agg(w.id ORDER BY w.due_at), array_agg(w.origin_key ORDER BY w.due_at) INTO firsts, keys
      FROM (SELECT q.id, q.origin_key, q.due_at FROM queue q WHERE q.suspect AND q.ready ORDER BY q.due_at LIMIT 256) w;
      SELECT array_agg(s.id), array_agg(s.newcomer) INTO chosen, chosen_news FROM (
        SELECT firsts[r.place] AS id, r.newcomer
        FROM rooms(keys, per_origin, welcoming, busy_origins, busy_counts) r
        WHERE r.room > 0 ORDER BY r.place LIMIT 1
      ) s;
      keys := '{}';
      firsts := '{}';
    END IF;
  END IF;

  IF chosen IS NULL THEN
    -- From one origin that has something due to the next, once around, beginning after the one that was last: every
    -- step is one look into the index, however much is behind it. Until enough of them have room; or until so many have
    -- none that others who want to claim have waited long enough.
    LOOP
      WITH RECURSIVE turn AS (
        (SELECT q.origin_key, q.id, 1 AS place FROM queue q
          WHERE q.ready AND NOT q.suspect AND q.origin_key >= first_ ORDER BY q.origin_key, q.due_at LIMIT 1)
        UNION ALL
        SELECT further.origin_key, further.id, t.place + 1 FROM turn t CROSS JOIN LATERAL (
          SELECT q.origin_key, q.id FROM queue q WHERE q.ready AND NOT q.suspect AND q.origin_key > t.origin_key
          ORDER BY q.origin_key, q.due_at LIMIT 1
        ) further WHERE t.place < steps
      )
      SELECT array_agg(t.origin_key), array_agg(t.id) INTO visited, visited_first FROM turn t
      WHERE NOT wrapped OR t.origin_key <= after_;
      IF visited IS NOT NULL THEN
        SELECT keys || coalesce(array_agg(r.key), '{}'), firsts || coalesce(array_agg(visited_first[r.place]), '{}'),
          spare || coalesce(array_agg(r.room), '{}'), news || coalesce(array_agg(r.newcomer), '{}')
        INTO keys, firsts, spare, news FROM (
          SELECT * FROM rooms(visited, per_origin, welcoming, busy_origins, busy_counts) WHERE room > 0 ORDER BY place
        ) r;
        last_ := visited[cardinality(visited)];
        looked := looked + cardinality(visited);
      END IF;
      EXIT WHEN cardinality(keys) >= most OR (wrapped AND coalesce(cardinality(visited), 0) < steps);
      IF looked >= 1024 THEN
        reached := last_;
        EXIT;
      END IF;
      IF visited IS NULL OR cardinality(visited) < steps OR last_ = highest THEN
        EXIT WHEN wrapped;
        wrapped := true;
        first_ := lowest;
      ELSE
        first_ := last_ + 1;
      END IF;
    END LOOP;
    -- Of each in turn those that were due first: one of every origin, then a second one. Few of each are looked at, and
    -- more only where some have fewer than their share.
    IF cardinality(keys) >= most THEN
      chosen := firsts[:most];
      chosen_news := news[:most];
    ELSE
      share := ceil(most::numeric / greatest(cardinality(keys), 1));
      LOOP
        SELECT array_agg(l.id ORDER BY l.turn, l.place), array_agg(l.newcomer ORDER BY l.turn, l.place)
        INTO chosen, chosen_news FROM (
          SELECT q.id, k.newcomer, k.place, row_number() OVER (PARTITION BY k.place ORDER BY q.due_at, q.id) AS turn
          FROM unnest(keys, spare, news) WITH ORDINALITY k(key, room, newcomer, place)
          CROSS JOIN LATERAL (
            SELECT w.id, w.due_at FROM queue w WHERE w.ready AND NOT w.suspect AND w.origin_key = k.key
            ORDER BY w.due_at LIMIT least(k.room, share)
          ) q
          ORDER BY turn, place LIMIT most
        ) l;
        EXIT WHEN share >= most OR coalesce(cardinality(chosen), 0) >= most;
        share := most;
      END LOOP;
    END IF;
  END IF;

  WITH free AS (
    SELECT q.id, c.place, c.newcomer FROM unnest(chosen, chosen_news) WITH ORDINALITY c(id, newcomer, place)
      JOIN queue q ON q.id = ANY (ARRAY[c.id]) WHERE q.ready FOR UPDATE OF q SKIP LOCKED
  ), leased AS (
    UPDATE queue q SET ready = false, leased = true, due_at = now_ + lease, claims = q.claims + 1,
      fence = greatest(q.fence + 1, next_fence)
    FROM free WHERE q.id = ANY (ARRAY[free.id])
    RETURNING q.id, q.origin_key, q.fence, q.attempts, q.run, q.reason, free.place, free.newcomer
  )
  SELECT array_agg(l.id), array_agg(l.fence), array_agg(l.attempts), array_agg(l.run), array_agg(l.reason),
    array_agg(l.newcomer), array_agg(l.origin_key)
  INTO ids, fences, made, runs, reasons, newcomers, visited FROM (
    SELECT * FROM leased ORDER BY place
  ) l;
  IF true = ANY (newcomers) THEN
    INSERT INTO origin AS o (origin_key, asked)
    SELECT c.origin_key, c.id FROM unnest(visited, ids, newcomers) c(origin_key, id, newcomer)
    WHERE c.newcomer ORDER BY c.origin_key
    ON CONFLICT (origin_key) DO UPDATE SET asked = excluded.asked;
  END IF;
  ends := now_ + lease;
  reached := coalesce(visited[cardinality(ids)], reached);
  -- Whoever got all that was asked for does not wait.
  later := CASE WHEN cardinality(chosen) >= most THEN 0 ELSE until_next(now_) END;
END $$;

-- What was asked for of what was claimed. Apart from the claim, because nobody need wait for it to be read; and between
-- which ids they are, because of all days only those are looked at.
CREATE FUNCTION asked_for(ids uuid[], lowest uuid, highest uuid) RETURNS SETOF delivery LANGUAGE plpgsql STABLE
  SET search_path FROM CURRENT SET enable_seqscan = off SET plan_cache_mode = force_generic_plan AS $$
BEGIN
  RETURN QUERY SELECT * FROM delivery d WHERE d.id = ANY (ids) AND d.id BETWEEN lowest AND highest;
END $$;

-- Take back claims that reached nobody, as if they had never been made; only their fences stay used.
CREATE FUNCTION unclaim(ids uuid[], fences bigint[]) RETURNS void LANGUAGE sql
  SET search_path FROM CURRENT SET enable_seqscan = off AS $$
  UPDATE queue q SET ready = true, leased = false, due_at = instant(), claims = q.claims - 1,
    suspect = q.claims - 1 > q.attempts
  FROM (
    SELECT held.id FROM unnest(ids, fences) c(id, fence)
      JOIN queue held ON held.id = ANY (ARRAY[c.id]) AND held.fence = c.fence
    WHERE held.leased ORDER BY c.id FOR UPDATE OF held
  ) owned WHERE q.id = ANY (ARRAY[owned.id])
$$;

-- Lease afresh what these claims still own: a lease may have ended, and nobody else have claimed it yet. What somebody
-- else is changing at this moment is settled, cancelled or claimed anew, and so not owned any more.
CREATE FUNCTION extend(ids uuid[], fences bigint[], lease interval)
RETURNS TABLE (id uuid, fence bigint) LANGUAGE sql SET search_path FROM CURRENT SET enable_seqscan = off AS $$
  UPDATE queue q SET due_at = instant() + lease, ready = false, suspect = q.claims - q.attempts > 1
  FROM (
    SELECT held.id FROM unnest(ids, fences) c(id, fence)
      JOIN queue held ON held.id = ANY (ARRAY[c.id]) AND held.fence = c.fence
    WHERE held.leased ORDER BY c.id FOR UPDATE OF held SKIP LOCKED
  ) owned WHERE q.id = ANY (ARRAY[owned.id])
  RETURNING q.id, q.fence
$$;
