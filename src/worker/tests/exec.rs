//! One request and its answer.

use super::*;
use futures_util::future::join_all;
use tokio::time::timeout;

async fn failure(pool: &WorkerPool, what: &str) -> String {
    ask(pool, what).await.unwrap_err().to_string()
}

/// The pid of the one worker.
async fn pid(pool: &WorkerPool) -> u32 {
    ask(pool, "pid").await.unwrap().parse().unwrap()
}

#[tokio::test]
async fn answers_come_back_whatever_their_size_and_their_pieces() {
    let pool = pool(spec(1)).await;
    for size in [
        1_usize,
        4000,
        4056,
        4057,
        4080,
        5000,
        65_536,
        300_000,
        3 << 20,
    ] {
        let body: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let answer = pool.exec(br#"{"type":["rpc"]}"#, &body).await.unwrap();
        assert!(answer == body, "{size} bytes");
    }
    assert_eq!(ask(&pool, "slowly").await.unwrap(), "do:slowly");
    assert_eq!(ask(&pool, "context").await.unwrap(), "{}");
    // 36, 37
    assert_eq!(ask(&pool, "with-context").await.unwrap(), "body");
    assert_eq!(ask(&pool, "empty").await.unwrap(), "");
    assert_eq!(ask(&pool, "big:32").await.unwrap().len(), 32 << 20);
}

#[tokio::test]
async fn w38_an_error_in_the_workers_words_fails_the_call_and_keeps_the_worker() {
    let pool = pool(spec(1)).await;
    let before = pid(&pool).await;
    assert_eq!(failure(&pool, "soft").await, "SoftJob: soft boom");
    assert_eq!(pid(&pool).await, before);
}

#[tokio::test]
async fn w39_w40_w41_w42_what_is_no_answer_fails_the_call_and_replaces_the_worker() {
    let pool = pool(spec(1)).await;
    for (what, words) in [
        ("no-options", "Decode: 0 options"),
        ("two-options", "Decode: 2 options"),
        ("beyond", "bad payload"),
        ("cut", "unexpected EOF"),
        ("noise", "oops, this is no frame at all"),
        ("crc", "checksum"),
        ("exit:7", "exit status: 7; on stderr: leaving"),
        ("die", "signal: 9"),
    ] {
        let before = pid(&pool).await;
        let failure = failure(&pool, what).await;
        assert!(failure.contains(words), "{what}: {failure}");
        assert_ne!(pid(&pool).await, before, "{what}");
        until_dead(before).await;
    }
    let cut = failure(&pool, "cut").await;
    assert!(cut.contains("exit status: 5"), "{cut}");
}

#[tokio::test]
async fn noise_before_a_good_answer_wedges_nobody() {
    let pool = pool(spec(1)).await;
    let failed = timeout(Duration::from_secs(5), failure(&pool, "noise-and-answer")).await;
    assert!(failed.unwrap().contains("oops"));
    assert_eq!(ask(&pool, "echo").await.unwrap(), "do:echo");
}

#[tokio::test]
async fn what_an_idle_worker_says_reaches_no_caller() {
    let pool = pool(spec(1)).await;
    let before = pid(&pool).await;
    assert_eq!(
        ask(&pool, "late-noise:0.05").await.unwrap(),
        "do:late-noise:0.05"
    );
    // A request that is on its way when the noise comes has no answer that could be told from it.
    let before = before.to_string();
    until("the noise has ended the worker", || async {
        ask(&pool, "pid").await.is_ok_and(|pid| pid != before)
    })
    .await;
    assert_eq!(ask(&pool, "echo").await.unwrap(), "do:echo");
}

#[tokio::test]
async fn w43_a_worker_that_asks_to_be_replaced_is_and_another_answers_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("once");
    let pool = pool(spec(1)).await;
    let before = pid(&pool).await;
    let what = format!("replace-once:{}", marker.display());
    let other: u32 = ask(&pool, &what).await.unwrap().parse().unwrap();
    assert_ne!(other, before);
    until_dead(before).await;
}

#[tokio::test]
async fn w44_workers_that_always_ask_to_be_replaced_end_in_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let pool = pool(with_env(spec(1), "STANDIN_LOG", log.to_str().unwrap())).await;
    assert_eq!(
        failure(&pool, "replace").await,
        "4 workers in turn asked to be replaced instead of answering"
    );
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(
        log.matches("got replace").count(),
        4,
        "it was run no more: {log}"
    );
    assert_eq!(ask(&pool, "echo").await.unwrap(), "do:echo");
}

#[tokio::test]
async fn w45_w46_a_stream_is_refused_and_drained_and_the_worker_kept() {
    let pool = pool(spec(1)).await;
    let before = pid(&pool).await;
    for what in ["stream:3", "ping"] {
        assert_eq!(
            failure(&pool, what).await,
            "streaming response not supported"
        );
        assert_eq!(pid(&pool).await, before, "{what}");
    }
    let endless = failure(&pool, "endless").await;
    assert!(endless.contains("stream_timeout"), "{endless}");
    let next = pid(&pool).await;
    assert_ne!(next, before);
    // One that takes the fence for a part of its stream is replaced.
    assert_eq!(
        failure(&pool, "ping-deaf").await,
        "streaming response not supported"
    );
    assert_ne!(pid(&pool).await, next);
}

#[tokio::test]
async fn w47_the_request_of_a_crashed_worker_is_not_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let pool = pool(with_env(spec(2), "STANDIN_LOG", log.to_str().unwrap())).await;
    assert!(failure(&pool, "die").await.contains("signal: 9"));
    ask(&pool, "echo").await.unwrap();
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.matches("got die").count(), 1, "{log}");
}

#[tokio::test]
async fn w48_exec_ttl_kills_the_worker_at_the_limit_and_the_next_request_is_served() {
    const LIMIT: Duration = Duration::from_millis(400);
    let mut spec = spec(1);
    spec.exec_ttl = LIMIT;
    let pool = pool(spec).await;
    let mut best = Duration::MAX;
    // The best of five: other tests run beside this one.
    for _ in 0..5 {
        let before = pid(&pool).await;
        let start = Instant::now();
        let failure = failure(&pool, "sleep:60000").await;
        let took = start.elapsed();
        assert!(failure.contains("ExecTTL"), "{failure}");
        assert!(took >= LIMIT, "{took:?}");
        best = best.min(took);
        assert_ne!(pid(&pool).await, before);
        until_dead(before).await;
        if best <= LIMIT + Duration::from_millis(100) {
            break;
        }
    }
    assert!(best <= LIMIT + Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn w50_a_caller_that_goes_away_frees_its_place_and_disturbs_no_worker() {
    let mut spec = spec(1);
    spec.max_queue_size = 2;
    let pool = pool(spec).await;
    let before = pid(&pool).await;
    let working = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool, "sleep:300").await }
    });
    until("it is at work", || async { pool.requests() == 1 }).await;
    // Queued, then gone: the place is free again.
    let queued = timeout(Duration::from_millis(20), ask(&pool, "echo")).await;
    assert!(queued.is_err());
    assert_eq!(pool.requests(), 1);
    // At work, then gone: the worker finishes, and its answer reaches nobody.
    working.abort();
    assert_eq!(ask(&pool, "served").await.unwrap(), "3");
    assert_eq!(pid(&pool).await, before);
    assert_eq!(pool.counts().late.get(), 1);
    until("all places are free", || async { pool.requests() == 0 }).await;
}

#[tokio::test]
async fn w51_a_request_that_is_passed_over_fails_at_once_and_keeps_the_worker() {
    let pool = pool(spec(1)).await;
    let before = pid(&pool).await;
    let mut best = Duration::MAX;
    for times in 1..=5 {
        let start = Instant::now();
        let failure = failure(&pool, "drop").await;
        best = best.min(start.elapsed());
        assert!(failure.contains("answered nothing"), "{failure}");
        assert_eq!(pid(&pool).await, before);
        assert_eq!(pool.counts().dropped.get(), times);
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}

#[tokio::test]
async fn w52_ten_thousand_requests_stay_in_step() {
    let pool = pool(spec(2)).await;
    let one = |n: usize| {
        let pool = pool.clone();
        async move {
            for at in 0..625 {
                let size = (n * 7919 + at * 104_729) % 9000;
                let body = format!("{n}-{at}-{}", "z".repeat(size));
                let answer = pool.exec(b"{}", body.as_bytes()).await.unwrap();
                assert!(answer == body.as_bytes(), "{n}-{at}");
            }
        }
    };
    join_all((0..16).map(one)).await;
    assert_eq!(pool.counts().dropped.get(), 0);
}

#[tokio::test]
async fn w53_the_second_of_two_answers_never_reaches_another_caller() {
    let pool = pool(spec(1)).await;
    for _ in 0..4 {
        let before = pid(&pool).await;
        assert_eq!(ask(&pool, "twice").await.unwrap(), "do:twice");
        assert_eq!(ask(&pool, "echo").await.unwrap(), "do:echo");
        assert_ne!(pid(&pool).await, before);
    }
}

#[tokio::test]
async fn w54_without_the_fence_the_exec_limit_ends_the_wait() {
    let mut spec = spec(1);
    spec.fence = false;
    spec.exec_ttl = Duration::from_millis(300);
    let pool = pool(spec).await;
    assert_eq!(ask(&pool, "echo").await.unwrap(), "do:echo");
    let start = Instant::now();
    assert!(failure(&pool, "drop").await.contains("ExecTTL"));
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn w55_a_request_without_context_and_body_is_never_sent() {
    let pool = pool(spec(1)).await;
    let refused = pool.exec(b"", b"").await.unwrap_err();
    assert_eq!(refused.to_string(), "payload can not be empty");
    assert_eq!(ask(&pool, "served").await.unwrap(), "1");
}

#[tokio::test]
async fn an_end_behind_a_good_answer_is_not_the_requests_failure() {
    let pool = pool(spec(1)).await;
    for _ in 0..5 {
        assert_eq!(
            ask(&pool, "answer-and-exit").await.unwrap(),
            "do:answer-and-exit"
        );
    }
    // The request alone does not fit what a pipe takes in one piece: the fence is written apart.
    let body = format!("do:answer-and-exit {}", "x".repeat(8000));
    for _ in 0..5 {
        assert_eq!(
            pool.exec(b"{}", body.as_bytes()).await.unwrap(),
            body.as_bytes()
        );
    }
}

#[tokio::test]
async fn w63_a_request_waits_for_a_worker_no_longer_than_allowed() {
    // A start has to be over in this time too.
    const LIMIT: Duration = Duration::from_secs(4);
    let mut spec = spec(1);
    spec.allocate_timeout = LIMIT;
    let pool = pool(spec).await;
    let busy = tokio::spawn({
        let pool = pool.clone();
        async move { ask(&pool, "sleep:8000").await }
    });
    until("it is at work", || async { pool.requests() == 1 }).await;
    let start = Instant::now();
    let failure = failure(&pool, "echo").await;
    assert!(failure.contains("NoFreeWorkers"), "{failure}");
    let took = start.elapsed();
    assert!((LIMIT..2 * LIMIT).contains(&took), "{took:?}");
    assert!(busy.await.unwrap().is_ok());
}

#[tokio::test]
async fn w64_one_request_more_than_the_pool_takes_fails_at_once() {
    let mut spec = spec(1);
    spec.max_queue_size = 3;
    let pool = pool(spec).await;
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { ask(&pool, "sleep:200").await })
        })
        .collect();
    until("three are in the pool", || async { pool.requests() == 3 }).await;
    let failure = failure(&pool, "echo").await;
    assert!(failure.contains("max queue size reached"), "{failure}");
    for call in join_all(calls).await {
        assert!(call.unwrap().is_ok());
    }
    assert!(ask(&pool, "echo").await.is_ok());
}

#[tokio::test]
async fn eight_workers_answer_a_hundred_requests_of_fifty_milliseconds_in_less_than_a_second() {
    let pool = pool(spec(8)).await;
    let start = Instant::now();
    let calls = (0..100).map(|_| ask(&pool, "sleep:50"));
    for answer in join_all(calls).await {
        answer.unwrap();
    }
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn w13_w36_w37_codec_bits_and_a_context_of_an_answer_change_nothing_and_an_empty_one_is_good()
{
    let pool = pool(spec(1)).await;
    for codec in [0, 4, 8, 16, 32, 128] {
        let answer = pool
            .exec(b"{}", format!("do:codec:{codec}").as_bytes())
            .await;
        let wanted = format!("do:codec:{codec}");
        assert_eq!(
            answer.unwrap(),
            wanted.as_bytes(),
            "the context is left out"
        );
    }
    assert_eq!(ask(&pool, "with-context").await.unwrap(), "body");
    assert_eq!(ask(&pool, "empty").await.unwrap(), "");
    assert_eq!(ask(&pool, "served").await.unwrap(), "9");
}

#[tokio::test]
async fn w19_an_answer_to_the_handshake_may_have_a_codec() {
    let pool = pool(with_env(spec(1), "STANDIN_START", "control-json")).await;
    assert!(ask(&pool, "echo").await.is_ok());
}

#[tokio::test]
async fn w33_a_request_says_protobuf_and_the_length_of_its_context_and_no_more() {
    let pool = pool(spec(1)).await;
    let context = br#"{"type":["rpc"]}"#;
    let seen = pool.exec(context, b"do:frame").await.unwrap();
    let seen: serde_json::Value = serde_json::from_slice(&seen).unwrap();
    let wanted = serde_json::json!({
        "flags": 0x80, "stream": 0, "options": [context.len()], "context": context.len(),
    });
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn w35_requests_of_any_size_come_back_as_they_went() {
    let pool = pool(spec(2)).await;
    let mut random = fastrand::Rng::with_seed(35);
    let sizes = (0..400).map(|at| match at {
        // Around what pipes and buffers are made of.
        0..64 => [4096, 8192, 16384, 65536][at % 4] + at / 4 - 8,
        _ => 1 << random.u32(0..21),
    });
    for size in sizes.collect::<Vec<usize>>() {
        let body = vec![b'x'; size];
        let answer = pool.exec(b"{}", &body).await.unwrap();
        assert!(answer == body, "{size} bytes");
    }
    assert_eq!(pool.counts().restarts.get(), 0);
}

#[tokio::test]
async fn w34_a_request_of_up_to_four_kilobytes_reaches_the_worker_in_one_piece() {
    for fence in [true, false] {
        let mut spec = spec(1);
        spec.fence = fence;
        let pool = pool(spec).await;
        for size in 0..600 {
            // A worker in PHP reads the first twelve bytes at once, or not at all.
            let body = vec![b'x'; size * 7 % 4000 + 1];
            assert_eq!(pool.exec(b"{}", &body).await.unwrap(), body);
        }
        assert_eq!(ask(&pool, "pieces").await.unwrap(), "0");
        let big = vec![b'x'; 1 << 20];
        assert!(pool.exec(b"{}", &big).await.is_ok());
        // What is bigger than a pipe shows that pieces are seen.
        assert_ne!(ask(&pool, "pieces").await.unwrap(), "0");
    }
}
