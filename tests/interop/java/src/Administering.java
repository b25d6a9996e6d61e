import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.DescribeClusterOptions;
import org.apache.kafka.clients.admin.DescribeConfigsOptions;
import org.apache.kafka.clients.admin.FeatureUpdate;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.UpdateFeaturesOptions;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionReplica;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.quota.ClientQuotaFilter;

/** The Admin client: one call of the host is one call of its interface. */
final class Administering {
    private static final Map<String, Admin> CLIENTS = new HashMap<>();
    private static final long DEADLINE_S = 30;

    private Administering() {
    }

    static Object call(JsonNode call) throws Exception {
        String bootstrap = call.get("bootstrap").asText();
        Admin admin = CLIENTS.computeIfAbsent(bootstrap, servers -> Admin.create(Map.of(
            "bootstrap.servers", servers, "default.api.timeout.ms", "20000", "request.timeout.ms", "10000",
            "enable.metrics.push", "true")));
        String verb = call.get("verb").asText();
        if (verb.equals("close")) {
            CLIENTS.remove(bootstrap).close();
            return null;
        }
        Object found = topics(admin, verb, call);
        if (found == null) {
            found = groups(admin, verb, call);
        }
        if (found == null) {
            found = cluster(admin, verb, call);
        }
        if (found == null) {
            throw new IllegalArgumentException("no such verb: " + verb);
        }
        return found;
    }

    private static Object topics(Admin admin, String verb, JsonNode call) throws Exception {
        switch (verb) {
            case "create_topic":
                NewTopic topic = new NewTopic(name(call), Optional.of(call.get("partitions_count").asInt()),
                    Optional.empty());
                Map<String, String> configs = new HashMap<>();
                Rendering.properties(call.get("configs")).forEach((key, value) -> configs.put(key, (String) value));
                var made = admin.createTopics(List.of(topic.configs(configs)),
                    new CreateTopicsOptions().validateOnly(call.path("validate_only").asBoolean()));
                Map<String, Object> created = new LinkedHashMap<>();
                created.put("outcome", made.values().get(name(call)));
                created.put("partitions", made.numPartitions(name(call)));
                created.put("topic_id", made.topicId(name(call)));
                created.put("config", made.config(name(call)));
                return created;
            case "describe_topics":
                return admin.describeTopics(Consuming.texts(call.get("topics"))).topicNameValues();
            case "describe_topic_ids":
                List<Uuid> ids = new ArrayList<>();
                call.get("ids").forEach(id -> ids.add(Uuid.fromString(id.asText())));
                return admin.describeTopics(TopicCollection.ofTopicIds(ids)).topicIdValues();
            case "list_topics":
                return admin.listTopics().namesToListings();
            case "delete_topics":
                return admin.deleteTopics(Consuming.texts(call.get("topics"))).topicNameValues();
            case "delete_topic_ids":
                return admin.deleteTopics(TopicCollection.ofTopicIds(
                    List.of(Uuid.fromString(call.get("id").asText())))).topicIdValues();
            case "create_partitions":
                return admin.createPartitions(
                    Map.of(name(call), NewPartitions.increaseTo(call.get("partitions_count").asInt()))).values();
            case "list_offsets":
                return admin.listOffsets(specs(call)).all();
            case "delete_records":
                Map<TopicPartition, RecordsToDelete> before = new HashMap<>();
                Consuming.partitions(call).forEach(partition ->
                    before.put(partition, RecordsToDelete.beforeOffset(call.get("offset").asLong())));
                return admin.deleteRecords(before).lowWatermarks();
            case "describe_producers":
                return admin.describeProducers(Consuming.partitions(call)).all();
            case "elect_leaders":
                return admin.electLeaders(ElectionType.valueOf(call.get("election").asText()),
                    new HashSet<>(Consuming.partitions(call))).partitions();
            case "list_reassignments":
                return admin.listPartitionReassignments().reassignments();
            case "reassign":
                Map<TopicPartition, Optional<NewPartitionReassignment>> moves = new HashMap<>();
                List<Integer> replicas = new ArrayList<>();
                call.get("replicas").forEach(replica -> replicas.add(replica.asInt()));
                Consuming.partitions(call).forEach(partition ->
                    moves.put(partition, Optional.of(new NewPartitionReassignment(replicas))));
                return admin.alterPartitionReassignments(moves).values();
            case "describe_replica_log_dirs":
                List<TopicPartitionReplica> where = new ArrayList<>();
                Consuming.partitions(call).forEach(partition -> where.add(new TopicPartitionReplica(
                    partition.topic(), partition.partition(), call.get("broker").asInt())));
                return admin.describeReplicaLogDirs(where).values();
            default:
                return null;
        }
    }

    private static Map<TopicPartition, OffsetSpec> specs(JsonNode call) {
        JsonNode when = call.get("spec");
        OffsetSpec spec;
        switch (when.asText()) {
            case "earliest":
                spec = OffsetSpec.earliest();
                break;
            case "latest":
                spec = OffsetSpec.latest();
                break;
            case "max_timestamp":
                spec = OffsetSpec.maxTimestamp();
                break;
            case "earliest_local":
                spec = OffsetSpec.earliestLocal();
                break;
            case "latest_tiered":
                spec = OffsetSpec.latestTiered();
                break;
            case "earliest_pending_upload":
                spec = OffsetSpec.earliestPendingUpload();
                break;
            default:
                spec = OffsetSpec.forTimestamp(when.asLong());
        }
        Map<TopicPartition, OffsetSpec> specs = new HashMap<>();
        Consuming.partitions(call).forEach(partition -> specs.put(partition, spec));
        return specs;
    }

    private static Object groups(Admin admin, String verb, JsonNode call) throws Exception {
        switch (verb) {
            case "list_groups":
                return admin.listGroups().all();
            case "describe_groups":
                return admin.describeConsumerGroups(Consuming.texts(call.get("groups"))).describedGroups();
            case "describe_classic_groups":
                return admin.describeClassicGroups(Consuming.texts(call.get("groups"))).describedGroups();
            case "group_offsets":
                return admin.listConsumerGroupOffsets(
                    Map.of(group(call), new ListConsumerGroupOffsetsSpec())).partitionsToOffsetAndMetadata(group(call));
            case "alter_group_offsets":
                return admin.alterConsumerGroupOffsets(
                    group(call), Consuming.offsets(call.get("offsets"))).all();
            case "delete_group_offsets":
                Set<TopicPartition> partitions = new HashSet<>(Consuming.partitions(call));
                var deleted = admin.deleteConsumerGroupOffsets(group(call), partitions);
                Map<String, Object> outcome = new LinkedHashMap<>();
                partitions.forEach(each -> outcome.put(each.toString(), deleted.partitionResult(each)));
                return outcome;
            case "delete_groups":
                return admin.deleteConsumerGroups(Consuming.texts(call.get("groups"))).deletedGroups();
            case "remove_members":
                Collection<MemberToRemove> members = new ArrayList<>();
                call.get("instances").forEach(id -> members.add(new MemberToRemove(id.asText())));
                return admin.removeMembersFromConsumerGroup(group(call), members.isEmpty()
                    ? new RemoveMembersFromConsumerGroupOptions()
                    : new RemoveMembersFromConsumerGroupOptions(members)).all();
            default:
                return null;
        }
    }

    private static Object cluster(Admin admin, String verb, JsonNode call) throws Exception {
        switch (verb) {
            case "describe_cluster":
                return admin.describeCluster(new DescribeClusterOptions().includeAuthorizedOperations(true));
            case "describe_configs":
                return admin.describeConfigs(List.of(resource(call)), new DescribeConfigsOptions()
                    .includeSynonyms(true).includeDocumentation(true)).values();
            case "alter_configs":
                List<AlterConfigOp> changes = new ArrayList<>();
                call.get("changes").forEach(change -> changes.add(new AlterConfigOp(
                    new ConfigEntry(change.get(1).asText(), change.get(2).asText()),
                    AlterConfigOp.OpType.valueOf(change.get(0).asText()))));
                return admin.incrementalAlterConfigs(Map.of(resource(call), changes)).values();
            case "list_config_resources":
                return admin.listConfigResources().all();
            case "describe_log_dirs":
                return admin.describeLogDirs(List.of(call.get("broker").asInt())).descriptions();
            case "alter_replica_log_dirs":
                Map<TopicPartitionReplica, String> moves = new HashMap<>();
                Consuming.partitions(call).forEach(partition -> moves.put(new TopicPartitionReplica(
                    partition.topic(), partition.partition(), call.get("broker").asInt()),
                    call.get("directory").asText()));
                return admin.alterReplicaLogDirs(moves).values();
            case "describe_features":
                return admin.describeFeatures().featureMetadata();
            case "update_features":
                return admin.updateFeatures(Map.of(name(call), new FeatureUpdate((short) 1,
                    FeatureUpdate.UpgradeType.UPGRADE)), new UpdateFeaturesOptions().validateOnly(true)).values();
            case "list_transactions":
                return admin.listTransactions().all();
            case "describe_transactions":
                return admin.describeTransactions(List.of(name(call))).description(name(call));
            case "describe_acls":
                return admin.describeAcls(AclBindingFilter.ANY).values();
            case "describe_quotas":
                return admin.describeClientQuotas(ClientQuotaFilter.all()).entities();
            case "describe_scram":
                return admin.describeUserScramCredentials().all();
            case "describe_tokens":
                return admin.describeDelegationToken().delegationTokens();
            case "client_instance_id":
                return List.of(admin.clientInstanceId(java.time.Duration.ofSeconds(DEADLINE_S)));
            case "metrics_names":
                return Collections.singletonList(admin.metrics().size());
            default:
                return null;
        }
    }

    private static String name(JsonNode call) {
        return call.get("name").asText();
    }

    private static String group(JsonNode call) {
        return call.get("group").asText();
    }

    private static ConfigResource resource(JsonNode call) {
        return new ConfigResource(ConfigResource.Type.valueOf(call.get("type").asText()), name(call));
    }
}
