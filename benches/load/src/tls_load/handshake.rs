//! Short connections.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use floor::latency::Latency;
use floor::tls;
use rustix::time::{ClockId, clock_gettime};
use rustls::ClientConfig;
use serde_json::json;
use tokio::task::{JoinSet, LocalSet};

use crate::options::Options;
use crate::{Outcome, connection, say};

#[derive(Default)]
struct Figures {
    left: usize,
    made: usize,
    resumed: usize,
    latency: Latency,
}

/// The CPU time that this process has used, in seconds.
fn cpu_seconds() -> f64 {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default().as_secs_f64()
}

/// Makes connections, one after the other, while some are left to make.
async fn work(
    options: Rc<Options>,
    settings: Arc<ClientConfig>,
    figures: Rc<RefCell<Figures>>,
) -> Outcome<()> {
    loop {
        {
            let mut figures = figures.borrow_mut();
            if figures.left == 0 {
                return Ok(());
            }
            figures.left -= 1;
        }
        let begin = Instant::now();
        let stream = connection::open(options.address, &settings).await?;
        let taken = begin.elapsed();
        {
            let mut figures = figures.borrow_mut();
            figures.made += 1;
            figures.resumed += usize::from(connection::is_resumed(&stream));
            figures.latency.add(taken);
        }
        connection::close(stream).await;
    }
}

/// Makes so many connections. Each worker has its own settings, which hold the session that it resumes.
async fn make(count: usize, options: &Rc<Options>, each: &[Arc<ClientConfig>]) -> Outcome<Figures> {
    let figures = Rc::new(RefCell::new(Figures { left: count, ..Figures::default() }));
    LocalSet::new()
        .run_until(async {
            let mut workers = JoinSet::new();
            for settings in each {
                workers.spawn_local(work(Rc::clone(options), Arc::clone(settings), Rc::clone(&figures)));
            }
            while let Some(ended) = workers.join_next().await {
                ended.map_err(|error| error.to_string())??;
            }
            Ok::<_, String>(())
        })
        .await?;
    Ok(figures.take())
}

#[expect(clippy::cast_precision_loss, reason = "nobody shakes 2^53 hands")]
pub async fn run(options: Options) -> Outcome<()> {
    let each = (0..options.at_once)
        .map(|_| tls::client(options.resume))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let options = Rc::new(options);
    make(options.warm_up, &options, &each).await?;
    say("MEASURING");
    let (begin, cpu) = (Instant::now(), cpu_seconds());
    let figures = make(options.count, &options, &each).await?;
    let seconds = begin.elapsed().as_secs_f64();
    say(json!({
        "handshakes": figures.made,
        "seconds": seconds,
        "handshakes_per_second": figures.made as f64 / seconds,
        "resumed": figures.resumed,
        "p50_us": figures.latency.quantile(0.5),
        "p99_us": figures.latency.quantile(0.99),
        "client_cpu_seconds": cpu_seconds() - cpu,
    }));
    Ok(())
}
