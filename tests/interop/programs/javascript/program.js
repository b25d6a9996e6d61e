// KafkaJS, or Confluent's client with KafkaJS's interface, at the service of the tests.
//
//     node program.js kafkajs|confluent HOST:PORT
//
// A line of JSON on standard input is a call, {"op": ..., "args": {...}}; its answer is a line on standard
// output, {"result": ...} or {"error": {"code", "message"}}. Calls are carried out one after the other; members
// of groups go on between them. The end of the input is the end of the program.
'use strict'

const path = require('path')
const readline = require('readline')

const [flavour, bootstrap] = process.argv.slice(2)
const confluent = flavour === 'confluent'
const library = confluent ? require('@confluentinc/kafka-javascript').KafkaJS : require('kafkajs')
const FAST = { sessionTimeout: 20000, rebalanceTimeout: 20000, heartbeatInterval: 50, maxWaitTimeInMs: 50 }

const bytes = text => (text === null || text === undefined ? null : Buffer.from(text, 'base64'))
const text = buffer => (buffer === null || buffer === undefined ? null : Buffer.from(buffer).toString('base64'))

function client() {
  const config = { brokers: [bootstrap], clientId: 'ottla-tests', logLevel: library.logLevel.NOTHING }
  if (confluent) return new library.Kafka({ kafkaJS: config })
  return new library.Kafka({ ...config, retry: { initialRetryTime: 20, retries: 5 } })
}

const kafka = client()

async function addCodecs() {
  const { CompressionTypes, CompressionCodecs } = library
  CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
  CompressionCodecs[CompressionTypes.LZ4] = new (require('@2l/kafkajs-lz4'))().codec
  // It is an ES module, which NODE_PATH does not find.
  const { Zstd } = await import(path.join(process.env.NODE_PATH, '@hpcc-js/wasm-zstd/dist/index.js'))
  const zstd = await Zstd.load()
  CompressionCodecs[CompressionTypes.ZSTD] = () => ({
    compress: async encoder => Buffer.from(zstd.compress(encoder.buffer)),
    decompress: async buffer => Buffer.from(zstd.decompress(buffer)),
  })
}

const CODECS = { none: 'None', gzip: 'GZIP', snappy: 'Snappy', lz4: 'LZ4', zstd: 'ZSTD' }

function message(record, partition) {
  const headers = {}
  for (const [name, value] of record.headers) {
    if (!(name in headers)) headers[name] = bytes(value)
    else headers[name] = [].concat(headers[name], bytes(value))
  }
  return {
    key: bytes(record.key),
    value: bytes(record.value),
    headers,
    partition,
    ...(record.timestamp >= 0 ? { timestamp: String(record.timestamp) } : {}),
  }
}

function record(topic, partition, message) {
  const headers = []
  for (const [name, values] of Object.entries(message.headers || {})) {
    for (const value of Array.isArray(values) ? values : [values]) headers.push([name, text(value)])
  }
  return {
    topic,
    partition,
    offset: Number(message.offset),
    timestamp: Number(message.timestamp),
    key: text(message.key),
    value: text(message.value),
    headers,
  }
}

function producerOf({ codec, acks, idempotent }) {
  if (!confluent) {
    const compression = library.CompressionTypes[CODECS[codec]]
    const createPartitioner = library.Partitioners.DefaultPartitioner
    return [kafka.producer({ createPartitioner, idempotent }), { acks, compression }]
  }
  return [kafka.producer({ kafkaJS: { acks, compression: codec, idempotent, allowAutoTopicCreation: false }, 'linger.ms': 5 }), {}]
}

async function produce({ topic, partition, records, codec = 'none', acks = -1, idempotent = false }) {
  const [producer, options] = producerOf({ codec, acks, idempotent })
  await producer.connect()
  try {
    const messages = records.map(each => message(each, partition))
    await producer.send({ topic, messages, ...options })
    return null
  } finally {
    await producer.disconnect()
  }
}

const STRATEGIES = { roundrobin: 'roundRobin', range: 'range', 'cooperative-sticky': 'cooperativeSticky' }

class Member {
  constructor({ group, strategy = null, auto_commit = false }) {
    this.records = []
    this.joined = []
    this.failure = null
    const config = { groupId: group, ...FAST, allowAutoTopicCreation: false }
    if (confluent) {
      const assigners = strategy && { partitionAssigners: [library.PartitionAssigners[STRATEGIES[strategy]]] }
      this.consumer = kafka.consumer({
        kafkaJS: { ...config, ...assigners, fromBeginning: true, autoCommit: auto_commit },
        'topic.metadata.refresh.interval.ms': 200,
      })
    } else {
      this.consumer = kafka.consumer({ ...config, metadataMaxAge: 200 })
      this.consumer.on('consumer.group_join', ({ payload }) => {
        this.joined = Object.entries(payload.memberAssignment).flatMap(([topic, them]) => them.map(p => [topic, p]))
      })
      this.consumer.on('consumer.rebalancing', () => { this.joined = [] })
      this.consumer.on('consumer.crash', ({ payload }) => { this.failure = String(payload.error) })
    }
    this.autoCommit = auto_commit
  }

  async start(topics, taken = () => {}) {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics, ...(confluent ? {} : { fromBeginning: true }) })
    await this.consumer.run({
      ...(confluent ? {} : { autoCommit: this.autoCommit }),
      eachMessage: async ({ topic, partition, message }) => {
        const each = record(topic, partition, message)
        this.records.push(each)
        taken(each)
      },
    })
  }

  get partitions() {
    if (!confluent) return this.joined
    return this.consumer.assignment().map(({ topic, partition }) => [topic, partition])
  }
}

const members = new Map()

async function join({ member, topics, pattern, ...options }) {
  const each = new Member(options)
  members.set(member, each)
  await each.start(pattern ? [new RegExp(pattern)] : topics)
  return null
}

function state({ member }) {
  const { partitions, records, failure } = members.get(member)
  return { partitions, records, failure }
}

async function leave({ member }) {
  const { consumer } = members.get(member)
  members.delete(member)
  await consumer.disconnect()
  return null
}

async function commit({ member, topic, partition, offset }) {
  await members.get(member).consumer.commitOffsets([{ topic, partition, offset: String(offset) }])
  return null
}

async function seek({ member, topic, partition, offset }) {
  await members.get(member).consumer.seek({ topic, partition, offset: String(offset) })
  return null
}

// Neither reads without a group: one of its own, with nothing committed.
async function read({ topic, partition, offset = null, beyond = false, count }) {
  const member = new Member({ group: `read-${process.pid}-${Math.random()}` })
  const wanted = each => each.partition === partition && (offset === null || beyond || each.offset >= offset)
  try {
    return await new Promise((resolve, reject) => {
      const got = []
      const take = each => {
        if (wanted(each)) got.push(each)
        if (got.length === count) resolve(got)
      }
      member
        .start([topic], take)
        .then(() => offset === null || member.consumer.seek({ topic, partition, offset: String(offset) }))
        .catch(reject)
    })
  } finally {
    await member.consumer.disconnect()
  }
}

const numbers = (them, field) => Object.fromEntries(them.map(each => [each.partition, Number(each[field])]))

const ADMIN = {
  create_topic: async (admin, { topic, partitions = 1, config = {} }) => {
    const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
    const made = await admin.createTopics({ topics: [{ topic, numPartitions: partitions, replicationFactor: 1, configEntries }] })
    // Both hide this error of the broker's.
    if (!made) throw Object.assign(new Error('the topic exists'), { code: 36 })
  },
  delete_topic: (admin, { topic }) => admin.deleteTopics({ topics: [topic] }),
  create_partitions: (admin, { topic, count }) => admin.createPartitions({ topicPartitions: [{ topic, count }] }),
  topics: admin => admin.listTopics(),
  partitions: async (admin, { topic }) => {
    const metadata = await admin.fetchTopicMetadata({ topics: [topic] })
    return (confluent ? metadata : metadata.topics)[0].partitions.map(each => each.partitionId)
  },
  offsets: async (admin, { topic, at }) => {
    if (at === 'earliest') return numbers(await admin.fetchTopicOffsets(topic), 'low')
    if (at === 'latest') return numbers(await admin.fetchTopicOffsets(topic), 'high')
    return numbers(await admin.fetchTopicOffsetsByTimestamp(topic, at), 'offset')
  },
  describe_config: async (admin, { topic, name }) => {
    const type = library.ConfigResourceTypes.TOPIC
    const { resources } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type, name: topic, configNames: [name] }] })
    return resources[0].configEntries[0].configValue
  },
  alter_config: async (admin, { topic, name, value }) => {
    const type = library.ConfigResourceTypes.TOPIC
    await admin.alterConfigs({ validateOnly: false, resources: [{ type, name: topic, configEntries: [{ name, value }] }] })
  },
  groups: async admin => (await admin.listGroups()).groups.map(each => each.groupId),
  describe_group: async (admin, { group }) => {
    const [found] = (await admin.describeGroups([group])).groups
    const names = confluent ? Object.entries(library.ConsumerGroupStates) : []
    const state = confluent ? names.find(([, number]) => number === found.state)[0] : found.state
    return { state: state.toLowerCase().replace(/_/g, ''), members: found.members.length }
  },
  delete_group: (admin, { group }) => admin.deleteGroups([group]),
  group_offsets: async (admin, { group, topic }) => {
    const [found] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    return numbers(found.partitions, 'offset')
  },
  reset_group_offsets: (admin, { group, topic, partition, offset }) =>
    admin.setOffsets({ groupId: group, topic, partitions: [{ partition, offset: String(offset) }] }),
  delete_records: async (admin, { topic, partition, offset }) => {
    // KafkaJS looks for the leader among the topics that it knows.
    await admin.fetchTopicOffsets(topic)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition, offset: String(offset) }] })
  },
  cluster: async admin => {
    const { brokers, controller, clusterId } = await admin.describeCluster()
    return { brokers: brokers.map(each => `${each.host}:${each.port}`), controller, cluster_id: clusterId }
  },
}

let administrator = null

async function administer(op, args) {
  if (administrator === null) {
    administrator = kafka.admin()
    await administrator.connect()
  }
  return await ADMIN[op](administrator, args)
}

const OPERATIONS = { produce, read, join, state, leave, commit, seek }

async function perform({ op, args }) {
  try {
    const result = op in OPERATIONS ? await OPERATIONS[op](args) : await administer(op, args)
    return { result: result === undefined ? null : result }
  } catch (error) {
    const [cause] = error.errors || error.groups || error.partitions || [error]
    const code = cause.code ?? cause.errorCode ?? cause.error?.code ?? cause.cause?.code ?? null
    return { error: { code: typeof code === 'number' ? code : null, message: `${error.stack} ${cause.error || ''}` } }
  }
}

async function main() {
  if (!confluent) await addCodecs()
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await perform(JSON.parse(line))) + '\n')
  }
  process.exit(0)
}

main()
